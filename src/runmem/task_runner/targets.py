"""Runs all targets: in a pool of this machine, or on the workers of the run under way or of a dedicated one."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runmem.task_runner.data_ids import described
from runmem.task_runner.dedicated_run import DedicatedRun, run_for
from runmem.task_runner.errors import RunTimeoutError, TargetKilledError, TargetTimeoutError
from runmem.task_runner.failures import TargetFailure, exit_code, failed_result
from runmem.task_runner.local_pool import LocalPool, may_fork
from runmem.task_runner.target_outcome import TargetOutcome
from runmem.task_runner.target_process import PoolWork
from runmem.task_runner.target_task import packed_arguments, task_of

if TYPE_CHECKING:
    from runmem.task_runner.runner import TaskRunner

__all__ = ["run_targets"]

_MOST_NAMED = 5


def run_targets(runner: TaskRunner, targets: Sequence[object]) -> tuple[list[object], list[TargetFailure]]:
    """Run all targets; return the results in their order, and the failures.

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
    deadline = None if runner.timeout is None else time.monotonic() + runner.timeout
    task = task_of(runner)
    packed = [packed_arguments(target) for target in targets]
    with run_for(runner, len(targets)) as dedicated:
        if dedicated is not None and dedicated.run.is_local and runner.localPool and may_fork():
            run, processes = dedicated.run, min(runner.numProcesses, len(targets))
            work = PoolWork(
                task, packed, processes, run.on_this_node(processes), run.worker_memory_bytes, run.note_death
            )
            outcomes = _outcomes_in_pool(work, dedicated, deadline)
        else:
            from runmem.task_runner.cluster_targets import outcomes_on_cluster  # Dask, which the pool does not need

            outcomes = outcomes_on_cluster(runner, task, packed, dedicated, deadline)
        if late := [index for index in range(len(targets)) if index not in outcomes]:
            raise _time_was_up(runner, targets, late)
        results, failures = _results(runner, targets, [outcomes[i] for i in range(len(targets))])
        if dedicated is not None:
            dedicated.exit_code = exit_code(results)
        return results, failures


def _outcomes_in_pool(work: PoolWork, dedicated: DedicatedRun, deadline: float | None) -> dict[int, TargetOutcome]:
    """Run all targets in a pool until `deadline`; return the outcomes of those that have ended."""
    run = dedicated.run
    pool = LocalPool(work)
    try:
        run.start()  # its threads must not be there when the program is forked
        pool.wait(deadline)
        run.stop_sampling()
        return dict(pool.outcomes)
    finally:
        pool.close()
        run.own_calls = len(pool.outcomes)
        for place, what in pool.losses:
            run.report_lost(place, what)


def _time_was_up(runner: TaskRunner, targets: Sequence[object], late: Sequence[int]) -> RunTimeoutError:
    named = ", ".join(described(targets[index]) for index in late[:_MOST_NAMED])
    more = f" and {len(late) - _MOST_NAMED} more" if len(late) > _MOST_NAMED else ""
    return RunTimeoutError(
        f"the time of the run, {runner.timeout:g} s, was up before {len(late)} of {len(targets)} targets had "
        f"ended: {named}{more}. Give more time with --timeout, or more --processes."
    )


def _results(
    runner: TaskRunner, targets: Sequence[object], outcomes: Sequence[TargetOutcome]
) -> tuple[list[object], list[TargetFailure]]:
    """Return the results, in the order of the targets, and the failures."""
    results: list[object] = []
    failures: list[TargetFailure] = []
    raised: BaseException | None = None
    for target, end in zip(targets, outcomes, strict=True):
        name = described(target)
        if end.killed is not None:
            failures.append(TargetFailure(name, end.killed, end.node or None, end.pid))
            if runner.doRaise:
                kind = TargetTimeoutError if end.timed_out else TargetKilledError
                raised = raised or kind(f"{name}: {end.killed}")
        elif end.raised is not None:
            raised = raised or end.raised.load()
            failures.append(TargetFailure(name, end.raised.text, end.node, end.pid))
        failures += [TargetFailure(noted, error, end.node, end.pid) for noted, error in end.failures]
        if end.value is not None:
            results.append(pickle.loads(end.value))
        else:
            results.append(failed_result(target, runner.doReturnResults))
    if raised is not None:
        runner.failures = failures
        raise raised
    return results, failures
