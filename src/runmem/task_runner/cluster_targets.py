"""Targets on the workers of a cluster: that of the run under way, or of a dedicated one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from runmem.dask_logging import import_dask, keep_dask_apart
from runmem.errors import TaskKilledError, TaskTimeoutError
from runmem.execution.call_state import state_of
from runmem.task_runner.dedicated_run import DedicatedRun
from runmem.task_runner.isolation import Ended, abandon_targets, stop_targets
from runmem.task_runner.target_task import TargetTask

if TYPE_CHECKING:  # and imported when the cluster is used
    from runmem.graph.future import Future
    from runmem.task_runner.runner import TaskRunner

__all__ = ["ended_on_cluster"]

_POLL_S = 0.01
_PATIENCE_S = 2.0  # for workers that are asked to end their targets


def ended_on_cluster(
    runner: TaskRunner,
    task: TargetTask,
    packed: Sequence[tuple[str, bytes]],
    dedicated: DedicatedRun | None,
    until_s: float | None,
) -> dict[int, Ended | BaseException]:
    """Run all targets, at most until then (seconds since the epoch); return how each has ended, by its index.

    Those that had not ended by then are not in it, and are ended when the run is not dedicated to them.
    """
    if dedicated is not None:
        dedicated.run.start()
    calls: list[Future] = []
    try:
        _load_dask(runner)
        for arguments in packed:
            calls.append(task(*arguments))
        if until_s is not None:
            _wait_until(calls, until_s)
            if not all(map(_has_ended, calls)):
                _give_up(task, dedicated, calls)
                return {index: _value_or_error(call) for index, call in enumerate(calls) if _has_ended(call)}
        ended = {index: _ended_well(end) for index, end in enumerate(_gathered(calls))}
    except BaseException:
        _give_up(task, dedicated, calls)
        raise
    if dedicated is not None:
        dedicated.run.stop_sampling()
    return ended


def _load_dask(runner: TaskRunner) -> None:
    """Import Dask, whose log stays out of the program's unless its level was asked for."""
    keep_dask_apart()
    if "distributed" in runner.logLevels:
        logging.getLogger("distributed").propagate = True
    import_dask()


def _give_up(task: TargetTask, dedicated: DedicatedRun | None, calls: Iterable[Future]) -> None:
    """End the targets that run on workers, and begin none any more."""
    bundles = [state_of(call.version.execution).bundle for call in calls]
    client = next(
        (bundle.future.client for bundle in bundles if bundle is not None and bundle.future is not None), None
    )
    if client is None:
        if dedicated is not None:
            dedicated.abandon()
    elif dedicated is None:  # a run that goes on: its workers stay
        _tell_workers(client, stop_targets, task.setup)
    elif not task.isolate:  # the workers' end alone would leave what targets have started
        _tell_workers(client, abandon_targets, task.setup)


def _tell_workers(client: Any, function: Callable[[bytes], None], setup: bytes) -> None:
    """Call a function in all workers; one that does not answer is not waited for."""
    import concurrent.futures

    from runmem.dask_private import start_on_worker

    workers = list(client.scheduler_info(n_workers=-1)["workers"])
    asked = [start_on_worker(client, function, setup, worker=worker, nanny=False) for worker in workers]
    concurrent.futures.wait(asked, timeout=_PATIENCE_S)


def _has_ended(call: Future) -> bool:
    return state_of(call.version.execution).done


def _wait_until(calls: Sequence[Future], time_s: float) -> None:
    """Wait until all calls have ended, or until a time in seconds since the epoch."""
    waiting = list(reversed(calls))
    while waiting and time.time() < time_s:
        while waiting and _has_ended(waiting[-1]):
            waiting.pop()
        time.sleep(_POLL_S)


def _gathered(calls: Sequence[Future]) -> list[Ended | BaseException]:
    """Return what the calls returned; for one whose worker died, or could not send it, the error."""
    from runmem.graph.synchronise import wait_on

    try:
        values: list[Ended | BaseException] = wait_on(list(calls))
        return values
    except Exception:
        return [_value_or_error(call) for call in calls]


def _value_or_error(call: Future) -> Ended | BaseException:
    from runmem.graph.synchronise import wait_on

    try:
        value: Ended = wait_on(call)
        return value
    except Exception as error:
        return error


def _ended_well(value: Ended | BaseException) -> Ended | BaseException:
    if isinstance(value, (Ended, TaskKilledError, TaskTimeoutError)):
        return value
    raise value  # the cluster failed, or the task could not be loaded: not the fault of this target
