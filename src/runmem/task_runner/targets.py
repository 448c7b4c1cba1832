"""Runs all targets: in a pool of this machine, or on the workers of the run under way or of a dedicated one."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from runmem.errors import TaskTimeoutError
from runmem.task_runner.data_ids import described
from runmem.task_runner.dedicated_run import DedicatedRun, run_for
from runmem.task_runner.errors import RunTimeoutError, TargetKilledError, TargetTimeoutError
from runmem.task_runner.failures import TargetFailure, exit_code, failed_result
from runmem.task_runner.isolation import Ended
from runmem.task_runner.local_pool import LocalPool, may_fork
from runmem.task_runner.target_process import PoolWork
from runmem.task_runner.target_task import packed_arguments, task_of

if TYPE_CHECKING:
    from runmem.task_runner.runner import TaskRunner

__all__ = ["run_targets"]

_GRACE_S = 2.0  # isolated targets are ended at the deadline where they run; what is told of it is waited for
_MOST_NAMED = 5


def run_targets(runner: TaskRunner, targets: Sequence[Any]) -> tuple[list[Any], list[TargetFailure]]:
    """Run all targets and return the results in their order, and what failed.

    Raises
    ------
    Exception
        That of the first target whose call of the runner raised.
    RunTimeoutError
        If the run's time was up first.
    ArgumentError
        If the runner or a target cannot be pickled.
    RunmemError
        If the task cannot be loaded where the targets run.
    """
    deadline_s = None if runner.timeout in (None, runner.TIMEOUT) else time.time() + float(runner.timeout or 0)
    task = task_of(runner, deadline_s)
    packed = [packed_arguments(target) for target in targets]
    until_s = None if deadline_s is None else deadline_s + (_GRACE_S if runner.isolate else 0.0)
    known: dict[int, Any] = {}
    with run_for(runner, len(targets)) as dedicated:
        if dedicated is not None and dedicated.run.is_local and runner.localPool and may_fork():
            run, processes = dedicated.run, min(runner.numProcesses, len(targets))
            work = PoolWork(
                task, packed, processes, runner.timeoutPerTarget, deadline_s, run.on_this_node(processes),
                run.worker_memory_bytes, run.tell_death,
            )  # fmt: skip
            ended, known = _ended_in_pool(work, dedicated, until_s)
        else:
            from runmem.task_runner.cluster_targets import ended_on_cluster  # Dask, which the pool does not need

            ended = ended_on_cluster(runner, task, packed, dedicated, until_s)
        late = [i for i in range(len(targets)) if i not in ended or getattr(ended[i], "timed_out", False)]
        if late and deadline_s is not None and time.time() >= deadline_s:
            raise _time_was_up(runner, targets, late)
        results, failures = _results(runner, targets, [ended[i] for i in range(len(targets))], known)
        if dedicated is not None:
            dedicated.exit_code = exit_code(results)
        return results, failures


def _ended_in_pool(
    work: PoolWork, dedicated: DedicatedRun, until_s: float | None
) -> tuple[dict[int, Ended | BaseException], dict[int, Any]]:
    """Run all targets in a pool, at most until then; return how those that have ended did, and what they returned."""
    run = dedicated.run
    pool = LocalPool(work)
    try:
        run.start()  # its threads must not be there when the program is forked
        pool.wait(until_s)
        run.stop_sampling()
        return dict(pool.ended), pool.results
    finally:
        pool.close()
        run.own_calls = len(pool.ended)
        for place, what in pool.losses:
            run.tell_lost(place, what)


def _time_was_up(runner: TaskRunner, targets: Sequence[Any], late: Sequence[int]) -> RunTimeoutError:
    named = ", ".join(described(targets[index]) for index in late[:_MOST_NAMED])
    more = f" and {len(late) - _MOST_NAMED} more" if len(late) > _MOST_NAMED else ""
    return RunTimeoutError(
        f"the time of the run, {runner.timeout:g} s, was up before {len(late)} of {len(targets)} targets had "
        f"ended: {named}{more}. Give more time with --timeout, or more --processes."
    )


def _results(
    runner: TaskRunner, targets: Sequence[Any], ended: Sequence[Ended | BaseException], known: dict[int, Any]
) -> tuple[list[Any], list[TargetFailure]]:
    """Return the results, of which some are known, in the order of the targets, and what failed."""
    results: list[Any] = []
    failures: list[TargetFailure] = []
    raised: BaseException | None = None
    for index, (target, end) in enumerate(zip(targets, ended, strict=True)):
        error: BaseException | None = None
        if isinstance(end, BaseException):
            kind = TargetTimeoutError if isinstance(end, TaskTimeoutError) else TargetKilledError
            error = kind(f"{described(target)}: {end}")
            failures.append(TargetFailure(described(target), str(end)))
        elif end.killed is not None:
            kind = TargetTimeoutError if end.timed_out else TargetKilledError
            error = kind(f"{described(target)}: {end.killed}")
            failures.append(TargetFailure(described(target), end.killed, end.node or None, end.pid or None))
        elif end.raised is not None:
            raised = raised or end.raised.load()
            failures.append(TargetFailure(described(target), end.raised.text, end.node, end.pid))
        failures += _noted(end)
        if error is not None and runner.doRaise:
            raised = raised or error
        if error is None and isinstance(end, Ended) and end.value is not None:
            results.append(known[index] if index in known else pickle.loads(end.value))
        else:
            results.append(failed_result(target, runner.doReturnResults))
    if raised is not None:
        runner.failures = failures
        raise raised
    return results, failures


def _noted(end: Ended | BaseException) -> list[TargetFailure]:
    if isinstance(end, BaseException):
        return []
    return [TargetFailure(name, error, end.node, end.pid) for name, error in end.failures]
