"""Runs bundles of calls on a worker, one call after the other."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Any

from runmem.errors import RunmemError, TaskCancelledError
from runmem.memory.stored_data import stored_data
from runmem.serialization.packed import Buffer, Packed, Wrapped, holdings
from runmem.serialization.task_error import PackedError
from runmem.worker.call_recorder import WorkerRun, stopped_runs, worker_runs
from runmem.worker.call_runner import run_call
from runmem.worker.cancellation import cancelled_calls, running
from runmem.worker.isolation.isolated_calls import IsolatedCalls
from runmem.worker.loaded_tasks import import_task
from runmem.worker.nesting import nestings
from runmem.worker.packed_call import BundleFailed, Outcome, PackedCall, PackedTask

__all__ = ["isolated_calls", "keep_value", "run_bundle"]

isolated_calls: dict[str, IsolatedCalls] = {}
"""The runners of calls in fresh processes, by the id of the run."""


def keep_value(value: Packed) -> Packed:
    """Return a large value of the program unchanged: the Dask task that stores the value on the cluster."""
    return value


def run_bundle(run_id: str, key: str, tasks: Sequence[PackedTask], data: bytes | Buffer, *dependencies: Any) -> Any:
    """Run the calls of a bundle one after the other and return their results, as a worker keeps them.

    Returns
    -------
    object
        For a single call its result; else a `Wrapped` with the result of each. The result of a call with one output is
        the value itself, with more a `Wrapped` or tuple of them.

    Raises
    ------
    BundleFailed
        If some calls raised.
    """
    if run_id in stopped_runs:
        raise RunmemError("the run has ended; its workers start no more calls")
    calls: list[PackedCall] = pickle.loads(data.data if isinstance(data, Buffer) else data)
    run = worker_runs.get(run_id)
    if run is not None and run.measures:
        stored_data().wait_for_transfers(holdings(dependencies))
    try:
        with _turn(run, run_id, calls), _limit(run, calls), _noted(run) as note:
            return _run_calls(run, run_id, key, calls, tasks, dependencies, note)
    finally:
        if run is not None:
            run.bundle_ended()


def _turn(run: WorkerRun | None, run_id: str, calls: Sequence[PackedCall]) -> AbstractContextManager[None]:
    """Return the block in which a bundle runs: it begins when no call runs alone on the node, or is next to do so.

    A call of a task begins at once: the one that made it may run, and wait for it.
    """
    if run is None or run.node_turns is None or calls[0].depth:
        return nullcontext()
    cancelled = cancelled_calls[run_id]

    def is_wanted() -> bool:
        return not run.stopped and not all(call.task_id in cancelled for call in calls)

    return run.node_turns.turn(calls[0].alone, is_wanted)


def _limit(run: WorkerRun | None, calls: Sequence[PackedCall]) -> AbstractContextManager[None]:
    """Return the block in which the worker may use more memory, if its only call is to have that."""
    if run is None or not calls[0].larger:
        return nullcontext()
    from runmem.worker.larger_limit import larger_limit  # imports Dask, which nothing else here needs

    return larger_limit(run)


def _noted(run: WorkerRun | None) -> AbstractContextManager[Callable[[int], None]]:
    """Return the block in which a bundle runs; its value notes the call that runs, see `RunningCalls`."""
    if run is None or run.running_calls is None:
        return nullcontext(lambda task_id: None)
    return run.running_calls.bundle()


def _run_calls(
    run: WorkerRun | None,
    run_id: str,
    key: str,
    calls: Sequence[PackedCall],
    tasks: Sequence[PackedTask],
    dependencies: Sequence[Any],
    note: Callable[[int], None],
) -> Any:
    outcomes: list[Outcome] = []
    begin_calls = partial(nestings[run_id].begin, run) if run_id in nestings else None
    isolated, cancelled = isolated_calls.get(run_id), cancelled_calls[run_id]
    if len(calls) > 1:
        note(calls[0].task_id)
        # Import before the first measurement, so that no call is charged for it; an import error is raised again by the
        # call itself.
        with suppress(BaseException):
            for task in tasks:
                if not task.isolation.fresh_process:
                    import_task(task)
    for number, call in enumerate(calls, 1):
        if run is not None and run.stopped:
            raise RunmemError("the run has ended; its workers start no more calls")
        task = tasks[call.task]
        note(call.task_id)
        with running(run_id, call.task_id):  # before `cancelled` is looked at: a call is cancelled either way
            if call.task_id in cancelled:
                outcomes.append((False, PackedError.of(TaskCancelledError(task.name, call.task_id))))
                continue
            run_it = partial(
                run_call,
                run,
                call,
                task,
                dependencies,
                outcomes,
                number == len(calls),
                isolated=isolated,
                begin_calls=begin_calls,
            )
            if task.isolation.attempts is None:
                outcomes.append(run_it())
            else:
                from runmem.worker.isolation.attempts import run_limited  # imports Dask, which nothing else here needs

                outcomes.append(run_limited(run_id, key, task.isolation.attempts, task.name, call.task_id, run_it))
    if not all(good for good, _ in outcomes):
        raise BundleFailed(key, outcomes) from None
    result = tuple(value for _, value in outcomes) if len(outcomes) > 1 else outcomes[0][1]
    return Wrapped(result) if type(result) is tuple else result
