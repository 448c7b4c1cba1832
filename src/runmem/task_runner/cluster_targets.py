"""Targets on the workers of a cluster: that of the run under way, or of a dedicated one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from runmem.dask_logging import import_dask, keep_dask_apart
from runmem.errors import TaskKilledError, TaskTimeoutError
from runmem.graph.current import current_program
from runmem.graph.synchronise import wait_on
from runmem.task_runner.dedicated_run import DedicatedRun
from runmem.task_runner.target_outcome import TargetOutcome
from runmem.task_runner.target_task import TargetTask

if TYPE_CHECKING:
    from runmem.graph.future import Future
    from runmem.graph.program import Program
    from runmem.task_runner.runner import TaskRunner

__all__ = ["outcomes_on_cluster"]

_CANCEL_WAIT_S = 2.0  # for workers to end the targets that they run


def outcomes_on_cluster(
    runner: TaskRunner,
    task: TargetTask,
    packed: Sequence[tuple[str, bytes]],
    dedicated: DedicatedRun | None,
    deadline: float | None,
) -> dict[int, TargetOutcome]:
    """Run all targets until `deadline`, a moment of `time.monotonic()`; return the outcome of each, by its index.

    Those that have not ended by then are not in it, and are ended when the run is not dedicated to them.
    """
    if dedicated is not None:
        dedicated.run.start()
    program = current_program()
    assert program is not None
    calls: list[Future] = []
    try:
        _load_dask(runner)
        calls += [task(*arguments) for arguments in packed]
        with suppress(TimeoutError):
            program.wait(calls, deadline)
        outcomes = {index: _outcome(call) for index, call in enumerate(calls) if program.has_ended(call)}
        if len(outcomes) < len(calls):
            _end_targets(program, dedicated, calls)
    except BaseException:
        _end_targets(program, dedicated, calls)
        raise
    if dedicated is not None:
        dedicated.run.stop_sampling()
    return outcomes


def _load_dask(runner: TaskRunner) -> None:
    """Import Dask, whose log stays out of the program's unless its level was asked for."""
    keep_dask_apart()
    if "distributed" in runner.logLevels:
        logging.getLogger("distributed").propagate = True
    import_dask()


def _end_targets(program: Program, dedicated: DedicatedRun | None, calls: Sequence[Future]) -> None:
    """Begin no target any more, and end those that run, unless the end of the dedicated run does so."""
    if dedicated is None:
        program.cancel(calls)
        with suppress(TimeoutError):
            program.wait(calls, monotonic() + _CANCEL_WAIT_S)
        for call in calls:
            if program.has_ended(call):
                with suppress(Exception):  # seen: the run need not report it at its end
                    wait_on(call)
    elif not dedicated.run.has_cluster:
        dedicated.abandon()


def _outcome(call: Future) -> TargetOutcome:
    """Return the outcome of a call that has ended; raise what is not the fault of its target."""
    try:
        outcome: TargetOutcome = wait_on(call)
    except (TaskKilledError, TaskTimeoutError) as error:
        reason = error.cause or str(error)
        timed_out = isinstance(error, TaskTimeoutError)
        return TargetOutcome(error.node or "", error.pid, killed=reason, timed_out=timed_out)
    return outcome
