"""Runs a target in this process, and reports how it ended."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, NamedTuple

from runmem.serialization import pickling
from runmem.serialization.error_parts import field_of
from runmem.serialization.task_error import PackedError, add_note, traceback_text
from runmem.store.node_name import node_name
from runmem.task_runner.data_ids import described
from runmem.task_runner.errors import exit_error
from runmem.task_runner.failures import TargetFailure
from runmem.worker.record_fields import set_record_fields

if TYPE_CHECKING:
    from runmem.task_runner.runner import TaskRunner

__all__ = ["TargetOutcome", "run_target"]


class TargetOutcome(NamedTuple):
    """How a target ended.

    Attributes
    ----------
    node : str
    pid : int or None
        The process that ran it; None: not known.
    value : bytes or None
        Pickle of the runner's result; None if it raised or died.
    raised : PackedError or None
        The exception of the runner.
    failures : list of (target, error)
        The failures that the runner has noted.
    killed : str or None
        Why its process died, if it did.
    timed_out : bool
        Whether that was because its time was up.
    """

    node: str
    pid: int | None
    value: bytes | None = None
    raised: PackedError | None = None
    failures: list[tuple[str, str]] = []
    killed: str | None = None
    timed_out: bool = False


def run_target(runner: TaskRunner, packed: bytes) -> TargetOutcome:
    """Run a pickled target in this process, and note in its record if it failed."""
    target = pickle.loads(packed)
    value, raised = None, None
    runner.failures = []
    try:
        value = _pickled(runner(target))
    except (SystemExit, KeyboardInterrupt) as request:  # ends this target only
        exited = exit_error(request)
        if runner.doRaise:
            raised = _packed(exited, request, target)
        else:
            runner.failures.append(TargetFailure(described(target), f"{type(exited).__name__}: {exited}"))
    except BaseException as error:
        raised = _packed(error, error, target)
    failures = [(failure.target, failure.error) for failure in runner.failures]
    if raised is not None or failures:
        text = raised.text if raised is not None else failures[0][1]
        set_record_fields(status="failed", exception=text.partition(":")[0])
    return TargetOutcome(node_name(), os.getpid(), value, raised, failures)


def _packed(error: BaseException, raised: BaseException, target: object) -> PackedError:
    """Pack the exception of a target, with a note of where it was raised."""
    trace = traceback_text(raised, field_of(raised, "__traceback__"))
    add_note(
        error,
        f"raised by the target {described(target)} on node {node_name()}, process {os.getpid()}\n"
        f"traceback there:\n{trace}",
    )
    return PackedError.of(error)


def _pickled(value: object) -> bytes:
    """Return the pickle of a result; what the program itself defines by value."""
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        try:
            return pickling.dumps(value)
        except Exception as error:
            raise TypeError(
                f"the result of the target cannot be pickled ({type(error).__name__}: {error}): return the data that "
                "it is made from"
            ) from error
