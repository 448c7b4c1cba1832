"""Runs all targets: a head start if there can be one, then the cluster of the run under way or of one of their own."""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from runmem.clusters.local import worker_count
from runmem.dask_logging import import_dask, keep_dask_apart
from runmem.errors import TaskKilledError
from runmem.settings import Settings
from runmem.task_runner.data_ids import described
from runmem.task_runner.errors import RunTimeoutError, TargetKilledError, TargetTimeoutError
from runmem.task_runner.failures import TargetFailure, exit_code, failed_result
from runmem.task_runner.forked_process import Work as AheadWork
from runmem.task_runner.head_start import HeadStart, hold, may_fork
from runmem.task_runner.isolation import Ended, abandon_targets, stop_targets
from runmem.task_runner.own_run import OwnRun, run_for
from runmem.task_runner.target_task import TargetTask, packed_arguments, task_of

if TYPE_CHECKING:  # and imported where a cluster is used: targets of a head start begin the sooner
    import concurrent.futures

    from runmem.execution.run import Run
    from runmem.graph.future import Future
    from runmem.task_runner.runner import TaskRunner

__all__ = ["run_on_cluster"]

_POLL_S = 0.01
_BUNDLE_S = 0.1  # short targets share a Dask task of this length, which costs some milliseconds
_GRACE_S = 2.0  # the workers end targets at the deadline; what they say of it is waited for
_MOST_NAMED = 5
_TURN_S = 0.1
_SETTLED_S = 0.05
_LOOK_S = 0.5  # so often it is asked how long what is left will take
_TAKEN_ALONG = Ended("", 0, None, None, [], "its process died when it was about to begin", False)
_WORTH_S = 30.0  # the start and the end of a cluster take seconds


def run_on_cluster(runner: TaskRunner, targets: Sequence[Any]) -> tuple[list[Any], list[TargetFailure]]:
    """Run all targets and return the results in their order, and what failed.

    Raises
    ------
    Exception
        That of the first target whose call of the runner raised.
    RunTimeoutError
        If the run's time was up first.
    ArgumentError
        If the runner or a target cannot be pickled.
    """
    deadline_s = None if runner.timeout in (None, runner.TIMEOUT) else time.time() + float(runner.timeout or 0)
    task = task_of(runner, deadline_s)
    packed = [packed_arguments(target) for target in targets]
    with run_for(runner, len(targets)) as own:
        work = _Work(runner, targets, task, packed, deadline_s)
        head = _head_start(work, own)
        try:
            if own is not None:
                own.run.start()
            ended = _all_ended(work, own, head)
            if own is not None:
                own.run.stop_sampling()
        finally:
            if head is not None:
                head.close()
                _tell_losses(head, own)
        results, failures = _results(runner, targets, ended, head.results if head is not None else {})
        if own is not None:
            own.exit_code = exit_code(results)
        return results, failures


class _Work(NamedTuple):
    """What is to be run, and until when; `packed` are the arguments of `task` for each target."""

    runner: TaskRunner
    targets: Sequence[Any]
    task: TargetTask
    packed: Sequence[tuple[str, bytes]]
    deadline_s: float | None

    @property
    def until_s(self) -> float | None:
        """Until when it is waited: what runs is ended at the deadline, and that it was is told a little later."""
        if self.deadline_s is None:
            return None
        return self.deadline_s + (_GRACE_S if self.runner.isolate else 0.0)


def _all_ended(work: _Work, own: OwnRun | None, head: HeadStart | None) -> list[Ended | BaseException]:
    """Return how each target has ended: those of the head start, if there is one, and the others on the cluster."""
    calls: dict[int, Future] = {}
    try:
        left: Sequence[int] = range(len(work.targets))
        if own is not None and head is not None:
            left = _run_ahead(work, own, head)
            own.run.program.made_elsewhere(len(work.targets) - len(left))
        held = _call_on_cluster(work, own, head, left, calls)
        ended = _waited_for(work, head, calls)
        del held
        return ended
    except BaseException:
        _give_up(work, own, calls.values())
        raise


def _call_on_cluster(
    work: _Work, own: OwnRun | None, head: HeadStart | None, left: Sequence[int], calls: dict[int, Future]
) -> list[Any]:
    """Call the task for the targets that are left; return what must be kept until they have ended."""
    if not left:
        return []
    from runmem.execution.bundle import set_bundle_length

    _load_dask(work.runner)
    held = _held_workers(own.run, head) if own is not None and head is not None else []
    set_bundle_length(work.task.name, _BUNDLE_S)
    for index in left:
        calls[index] = work.task(*work.packed[index])
    return held


def _waited_for(work: _Work, head: HeadStart | None, calls: dict[int, Future]) -> list[Ended | BaseException]:
    """Wait for all targets and return how they ended. Raises RunTimeoutError if the time of the whole run was up."""
    if work.until_s is not None:
        _wait_until(list(calls.values()), work.until_s)
        open_ones = [index for index, call in calls.items() if not call.version.execution.state.done]
        if open_ones:
            known = head.ended if head is not None else {}
            raise _time_was_up(
                work, [i for i in range(len(work.targets)) if i in open_ones or i not in {**known, **calls}]
            )
    gathered = [_ended_well(call) for call in _gathered(list(calls.values()))] if calls else []
    while head is not None and not head.is_over and (work.until_s is None or time.time() < work.until_s):
        head.wait(_TURN_S)
    ended: dict[int, Ended | BaseException] = dict(zip(calls, gathered, strict=True))
    if head is not None:
        ended.update(head.ended)
    late = [i for i in range(len(work.targets)) if i not in ended or getattr(ended[i], "timed_out", False)]
    if late and work.deadline_s is not None and time.time() >= work.deadline_s:
        raise _time_was_up(work, late)
    return [ended.get(index, _TAKEN_ALONG) for index in range(len(work.targets))]


# --- the head start ---------------------------------------------------------------------------------------------------


def _head_start(work: _Work, own: OwnRun | None) -> HeadStart | None:
    """Let the first targets begin, if that can be done: in processes forked from this one."""
    if own is None or not own.run.is_local or not work.runner.headStart or not may_fork():
        return None
    given = AheadWork(
        work.task, work.task.setup, work.packed, work.runner.isolate, work.runner.timeoutPerTarget, work.deadline_s
    )
    processes = min(work.runner.numProcesses, len(work.targets))
    run = own.run
    head = HeadStart(given, run.on_this_node(processes), processes, run.worker_memory_bytes, run.tell_death)
    head.wait_until_begun(_SETTLED_S)  # what follows takes processor time of the program and of the sampler
    return head


def _tell_losses(head: HeadStart, own: OwnRun | None) -> None:
    if own is not None:
        for place, what in head.lost:
            own.run.tell_lost(place, what)


def _run_ahead(work: _Work, own: OwnRun, head: HeadStart) -> list[int]:
    """Wait until all targets have ended or the cluster is there, which is started if it pays; return what is left."""
    began_s = time.monotonic()
    starting: concurrent.futures.Future[None] | None = None
    try:
        while not head.is_over and (work.until_s is None or time.time() < work.until_s):
            head.wait(_LOOK_S if starting is None and work.until_s is None else _TURN_S)
            if starting is not None:
                if starting.done():
                    break
            elif time.monotonic() - began_s > _LOOK_S and (head.left_s() > _worth_s() or head.has_lost_one):
                starting = _start_cluster(work.runner, own)
    except BaseException:
        own.abandon()  # a cluster that is starting would be waited for
        head.close()
        if starting is not None:
            starting.exception()
        raise
    left = head.stop_giving()
    if starting is not None:
        starting.result()
    return left


def _start_cluster(runner: TaskRunner, own: OwnRun) -> concurrent.futures.Future[None]:
    """Start the cluster in a thread of its own."""
    import concurrent.futures

    starter = concurrent.futures.ThreadPoolExecutor(1, "runmem-start")
    starting = starter.submit(_connect, runner, own)
    starter.shutdown(wait=False)
    return starting


def _worth_s() -> float:
    """Return how long what is left must take for a cluster to pay: a busy machine is as much slower to start it."""
    busy = 1.0
    with suppress(OSError):
        busy = os.getloadavg()[0] / worker_count(Settings())
    return _WORTH_S * max(1.0, busy)


def _connect(runner: TaskRunner, own: OwnRun) -> None:
    _load_dask(runner)  # which takes a while
    if not own.is_abandoned:
        own.run.connect()


def _held_workers(run: Run, head: HeadStart) -> list[Any]:
    """Keep a worker free for each process of the head start that still runs a target: there is one core for both."""
    client = run.connect()
    workers = list(client.scheduler_info(n_workers=-1)["workers"])
    return [
        client.submit(hold, lock, workers=[worker], pure=False)
        for lock, worker in zip(head.locks(), workers, strict=False)
    ]


def _load_dask(runner: TaskRunner) -> None:
    """Import Dask, whose log stays out of the program's unless its level was asked for."""
    keep_dask_apart()
    if "distributed" in runner.logLevels:
        logging.getLogger("distributed").propagate = True
    import_dask()


def _give_up(work: _Work, own: OwnRun | None, calls: Iterable[Future]) -> None:
    """End the targets that run on workers, and begin none any more."""
    bundles = [call.version.execution.state.bundle for call in calls]
    client = next(
        (bundle.future.client for bundle in bundles if bundle is not None and bundle.future is not None), None
    )
    if client is None:
        if own is not None:
            own.abandon()
    elif own is None:  # a run that goes on: its workers stay
        _tell_workers(client, stop_targets, work.task.setup)
    elif not work.runner.isolate:  # the workers' end alone would leave what targets have started
        _tell_workers(client, abandon_targets, work.task.setup)


def _tell_workers(client: Any, function: Callable[[bytes], None], setup: bytes) -> None:
    """Call a function in all workers; one that does not answer is not waited for."""
    import concurrent.futures

    from runmem.execution.dask_private import start_on_worker

    workers = list(client.scheduler_info(n_workers=-1)["workers"])
    asked = [start_on_worker(client, function, setup, worker=worker, nanny=False) for worker in workers]
    concurrent.futures.wait(asked, timeout=_GRACE_S)


# --- how they ended ---------------------------------------------------------------------------------------------------


def _wait_until(calls: Sequence[Future], time_s: float) -> None:
    """Wait until all calls have ended, or until a time in seconds since the epoch."""
    waiting = list(reversed(calls))
    while waiting and time.time() < time_s:
        while waiting and waiting[-1].version.execution.state.done:
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
    if isinstance(value, (Ended, TaskKilledError)):
        return value
    raise value  # the cluster failed, or the task could not be loaded: not the fault of this target


def _time_was_up(work: _Work, late: Sequence[int]) -> RunTimeoutError:
    named = ", ".join(described(work.targets[index]) for index in late[:_MOST_NAMED])
    more = f" and {len(late) - _MOST_NAMED} more" if len(late) > _MOST_NAMED else ""
    return RunTimeoutError(
        f"the time of the run, {work.runner.timeout:g} s, was up before {len(late)} of {len(work.targets)} targets had "
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
            error = TargetKilledError(f"{described(target)}: {end}")
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
