"""Sends calls to Dask, and brings results and errors back. The only module that talks to a Dask client about tasks.

The program's thread only puts calls into a queue; a thread of ours sends them, a few milliseconds' worth at a time.
Calls that share a Dask task (see `bundle`) keep their own results, errors and blame: when a bundle is killed its calls
run again one by one, and when one of its calls raises, the results of the others are kept.
"""

from __future__ import annotations

import logging
import pickle
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import distributed
from distributed.scheduler import KilledWorker

import runmem.serialization.dask_serialization  # noqa: F401  # Dask is told
from runmem.collection.observer import Observers
from runmem.dask_private import send_graph
from runmem.deadlines import within
from runmem.errors import RunmemError, TaskCancelledError, TaskKilledError, TaskTimeoutError
from runmem.events import TaskEnded, TaskRecord, TaskSubmitted
from runmem.execution.bundle import Bundle, Durations, Pending, plan
from runmem.execution.call_errors import error_of, not_brought, own_error, own_mistake, tell_killed, timeout_error
from runmem.execution.call_queue import CallQueue
from runmem.execution.dask_task import dask_task
from runmem.execution.random_numbers import SeedNote
from runmem.execution.results import Results, made_again
from runmem.execution.stragglers import Stragglers
from runmem.execution.unseen_errors import UnseenErrors
from runmem.graph.call import Execution, TaskCall, Version, inherit_origin
from runmem.graph.task import TaskFunction
from runmem.serialization.arguments import Resolve, pack
from runmem.serialization.definitions import program_definitions, run_program
from runmem.serialization.error_parts import set_field
from runmem.serialization.large_values import LargeValues
from runmem.serialization.packed import Carried, Packed
from runmem.serialization.snapshot import Snapshot, Snapshots
from runmem.worker.bundle_runner import BundleFailed, PackedTask
from runmem.worker.cancellation import cancel_calls
from runmem.worker.log_levels import program_levels
from runmem.worker.process_state import FollowedProcess

__all__ = ["DaskSubmitter"]

log = logging.getLogger(__name__)

_GATHER_S = 0.004  # how long calls wait for company
_POLL_S = 0.01
_IDLE_POLL_S = 0.1
_HELD_POLL_S = 0.003
_HOLD_S = 30.0  # calls that wait so long for the first of their name are long, or wait for something that is
_CANCEL_S = 5.0
_ARGUMENT = "argument"
_KNOWN_TASKS = 512


class DaskSubmitter:
    """Implements `runmem.graph.call.Submitter` on a Dask cluster.

    Parameters
    ----------
    run_id : str
    connect : callable
        Gives the client and the number of workers; called in a thread of ours when the first call comes.
    observers : Observers
    killed_reason : callable
        Tells what is known of why a call's worker was killed.
    copied : bool, optional
        Whether tasks get copies also of large values that they only read; None: in programs that import pycompss.
    process : FollowedProcess, optional
        What tasks follow of the state of the program's process; None: nothing.
    in_order : bool
        Whether calls run in the order of the program where their data allow. On a scheduler that others use too they
        would always come before or after those of the others.
    limit_s : float, optional
        Seconds that a call may take whose task does not say.
    now : callable
        Gives the time of the run, in seconds since the epoch.
    running : callable
        Tells what is known of the attempt at a call that runs, where memory is measured.

    Attributes
    ----------
    ran_well : int
        Number of calls that ended without an error.
    """

    def __init__(
        self,
        run_id: str,
        connect: Callable[[], tuple[distributed.Client, int]],
        observers: Observers,
        killed_reason: Callable[[int], str | None],
        copied: bool | None = None,
        process: FollowedProcess | None = None,
        in_order: bool = True,
        limit_s: float | None = None,
        now: Callable[[], float] = time.time,
        running: Callable[[int], TaskRecord | None] = lambda task_id: None,
    ) -> None:
        self._run_id = run_id
        self._connect = connect
        self._observers = observers
        self._killed_reason = killed_reason
        self._stragglers = Stragglers(observers.task_waited_for, now, running)
        self._copied = copied
        self._process = process
        self._in_order = in_order
        self._limit_s = limit_s
        run_program(True)
        self._snapshots = Snapshots(program_definitions)
        self._tasks: dict[TaskFunction, tuple[Snapshot | None, PackedTask]] = {}
        self._large = LargeValues(self._send_value)
        self._seed_note = SeedNote()
        self._durations = Durations()
        self._queue = CallQueue()
        self._live: dict[Execution, None] = {}  # waiting or sent: kept alive until they have ended
        self._sent: dict[Bundle, None] = {}
        self._in_flight: Counter[str] = Counter()
        self._last_moved: dict[str, float] = {}
        self._unseen = UnseenErrors()
        self.ran_well = 0
        self._results = Results()
        self._client: distributed.Client | None = None
        self._workers = 1
        self._broken: BaseException | None = None
        self._changed = threading.Condition(threading.RLock())
        self._sending = threading.Lock()
        self._fetching = threading.Lock()  # what is awaited is fetched by a thread of its own
        self._told: deque[tuple[str, int, float, int]] = deque()
        self._timed_out: deque[tuple[int, float, str | None, str]] = deque()
        self._next_poll_s = 0.0
        self._urgent = False
        self._closing = False
        self._thread: threading.Thread | None = None
        self._tells_submitted = observers.hears("task_submitted")
        self._tells_ended = observers.hears("task_ended")

    # --- the program's side -------------------------------------------------------------------------------------------

    def submit(self, call: TaskCall, resolve: Resolve) -> None:
        """Take a call; see `Submitter`."""
        self._check()
        body = pack(call, resolve, self._large, self._snapshots, _classes_of)
        if body.inputs or call.after:
            inherit_origin(call.execution, [*(version.execution for version in body.inputs), *call.after])
        snapshot = body.snapshot
        call.execution.state = Pending(
            task=self._packed_task(call, snapshot),
            body=body,
            after=call.after,
            writes=call.writes,
            files=call.files,
            classes=snapshot.travelling if snapshot is not None else frozenset(),
            definitions=snapshot,
            alone=call.isolation.attempts is not None,
        )
        self._enqueue(call.execution)
        if self._tells_submitted:
            self._observers.task_submitted(TaskSubmitted(call.execution.task_id, call.execution.name))

    def _packed_task(self, call: TaskCall, snapshot: Snapshot | None) -> PackedTask:
        """Return what the call has in common with others; the very same as at the last call, if it is the same."""
        task = call.task
        process = self._process.packed() if self._process is not None else b""
        constants = snapshot.constants if snapshot is not None else b""
        copied = self._copied or (self._copied is None and "pycompss" in sys.modules)
        levels = program_levels.current()
        known = self._tasks.get(task)
        if known is not None and known[0] is snapshot:
            packed = known[1]
            same = packed.constants is constants and packed.process is process and packed.log_levels is levels
            if same and packed.copied == copied:
                return packed
        self._seed_note.look_at(task)
        number = program_definitions.number_of(task)
        reference = pickle.dumps(task) if number is None else None
        outline = snapshot.outline if snapshot is not None else None
        isolation = call.isolation
        limit_s = self._limit_s if isolation.limit_s is None else isolation.limit_s
        isolation = replace(isolation, limit_s=limit_s or None)
        packed = PackedTask(
            task.name, reference, number, outline, constants, call.returns, copied, process, levels, isolation
        )
        self._tasks[task] = snapshot, packed
        while len(self._tasks) > _KNOWN_TASKS:
            del self._tasks[next(iter(self._tasks))]
        return packed

    def _send_value(self, value: Packed, numbers: frozenset[int]) -> Version:
        execution = Execution(0, _ARGUMENT, 1)
        objects = tuple(program_definitions.object_of(number) for number in numbers)
        execution.state = Pending(value=value, has_value=True, classes=numbers, definitions=objects)
        self._enqueue(execution)
        return Version(execution, 0)

    def _enqueue(self, execution: Execution) -> None:
        self._stragglers.moved(time.monotonic())
        with self._changed:
            self._live[execution] = None
            self._queue.append(execution)
            execution.state.take_turn()
            if len(self._queue) == 1:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._loop, name="runmem-submitter", daemon=True)
                    self._thread.start()
                self._changed.notify_all()

    def fetch(self, versions: Sequence[Version]) -> list[Any]:
        """Return values; see `Submitter`."""
        executions = list(dict.fromkeys(version.execution for version in versions))
        while True:
            self._settle(executions)
            self._raise_first(executions)
            try:
                with self._fetching:
                    values = self._results.of(executions, self._client) if self._client is not None else {}
            except Exception as error:
                # Lost between its end and here: Dask has run it again, and it ended otherwise this time.
                if not self._note_again(executions):
                    raise not_brought(executions, error) from None
                continue
            break
        return [made_again(version, values[version.execution]) for version in versions]

    def wait(
        self, executions: Sequence[Execution] | None, deadline: float | None = None, raises: bool = True
    ) -> None:
        """Wait until executions have ended; see `Submitter`."""
        while deadline is not None and executions is not None and not all(map(self.has_ended, executions)):
            if time.monotonic() >= deadline:
                raise TimeoutError
            time.sleep(_POLL_S)
        if executions is not None:
            self._settle(executions)
            if raises:
                self._raise_first(executions)
            return
        while True:
            with self._changed:
                waiting = list(self._live)
            if not waiting:
                break
            self._settle(waiting)
        if self._unseen:
            raise self._explained(self._unseen.take())

    def has_ended(self, execution: Execution) -> bool:
        """Tell whether an execution has ended; see `Submitter`."""
        return self.broken or execution.state.done

    @property
    def has_open_calls(self) -> bool:
        """Whether a call has not ended, as far as it is known."""
        return bool(self._live)

    def open_calls(self) -> list[int]:
        """Return the numbers of the calls that have not ended, as far as it is known."""
        with self._changed:
            return [execution.task_id for execution in self._live if execution.task_id]

    @property
    def broken(self) -> bool:
        """Whether the cluster could not be reached, or not any more."""
        return self._broken is not None

    def unseen_errors(self) -> list[BaseException]:
        """Return the errors of tasks that nobody has seen, for the end of the run."""
        return [self._explained(error) for error in self._unseen]

    def cancel(self, executions: Sequence[Execution] | None = None) -> None:
        """Cancel those of these calls (None: all) that have not begun; nothing is waited for for long."""
        if executions is not None:
            self._cancel(executions)
            return
        with self._changed:
            futures = [bundle.future for bundle in self._sent if bundle.future is not None]
        if self._client is not None and futures:
            within(_CANCEL_S, self._client.cancel, futures)

    def _cancel(self, executions: Sequence[Execution]) -> None:
        with self._changed:
            unsent = self._queue.clear()
            self._queue.put_back(execution for execution in unsent if execution not in executions)
            for execution in unsent:
                if execution in executions:
                    self._ended(execution, TaskCancelledError(execution.name, execution.task_id))
            self._changed.notify_all()
        if self._client is not None:
            ids = [execution.task_id for execution in executions if not execution.state.done]
            within(_CANCEL_S, self._client.run, cancel_calls, self._run_id, ids)

    def close(self) -> None:
        """Stop sending; what was not sent is dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _raise_first(self, executions: Sequence[Execution]) -> None:
        failed = [execution for execution in executions if execution.state.error is not None]
        for execution in failed:  # whoever catches the first has asked for all of them
            self._unseen.saw(execution, execution.state.error)
        if failed:
            error = failed[0].state.error
            # What the worker's frames say stands in the note of the error; each raise would add them again.
            set_field(error, "__traceback__", None)
            raise self._explained(error)

    def _settle(self, executions: Sequence[Execution]) -> None:
        """Return when all have ended."""
        while True:
            self._check()
            with self._changed:
                open_ones = [execution for execution in executions if not execution.state.done]
                if not open_ones:
                    return
                sent = {id(b): b for e in open_ones if (b := e.state.bundle) is not None and b.future is not None}
                if self._client is None or not sent:
                    self._urgent = True
                    self._changed.notify_all()
                    self._changed.wait(0.005 if self._client is not None else 0.05)
                    continue
            # Cancelled: the time of a call was up, and what needed it is dealt with below.
            with self._client.as_current(), suppress(CancelledError):
                distributed.wait([bundle.future for bundle in sent.values()])
            self._poll(list(sent.values()))

    # --- the sending side ---------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            client, workers = self._connect()
        except BaseException as error:
            with self._changed:
                self._broken = error
                self._changed.notify_all()
            return
        with self._changed:
            self._client, self._workers = client, workers
            self._changed.notify_all()
        while not self._closing:
            with self._changed:
                if not self._queue and not self._urgent:
                    self._changed.wait(_POLL_S if self._sent else _IDLE_POLL_S)
            if self._queue and not self._urgent:
                time.sleep(_GATHER_S)
            if not self._turn():
                return

    def _turn(self) -> bool:
        """Take note of what has ended and send what can be sent; return whether to go on."""
        try:
            self._poll_now_and_then()
            while self._timed_out:
                self._end_timed_out(*self._timed_out.popleft())
            self._flush()
            if self._live and not self._told:
                self._stragglers.look(list(self._live), self._workers, time.monotonic())
        except Exception as error:
            if self._closing:
                return False
            if self._connection_is_lost(error):
                self._break(error)
                return False
            with self._changed:
                for execution in self._queue.clear():
                    self._ended(execution, own_mistake(execution, error))
                self._changed.notify_all()
        return True

    def _connection_is_lost(self, error: Exception) -> bool:
        return (
            isinstance(error, OSError) or self._client is None or self._client.status not in ("running", "connecting")
        )

    def _break(self, error: Exception) -> None:
        log.error("calls could not be sent", exc_info=error)
        with self._changed:
            self._broken = RunmemError(
                f"the connection to the Dask cluster failed: {type(error).__name__}: {error}. Look at the scheduler's "
                "log; the tasks that had ended are in the run directory."
            )
            self._changed.notify_all()

    def workers_changed(self, workers: int) -> None:
        """Note how many workers there are now."""
        self._workers = max(1, workers)

    def told(self, name: str, calls: int, seconds: float, largest_bytes: int) -> None:
        """Take what a worker tells of the duration of calls.

        Called in the client's event loop, which must never wait for our lock: who holds it may wait for the loop.
        """
        self._told.append((name, calls, seconds, largest_bytes))

    def timed_out(self, task_id: int, limit_s: float, stack: str | None, where: str) -> None:
        """Take that the time of a call was up; called as `told` is."""
        self._timed_out.append((task_id, limit_s, stack, where))

    def _end_timed_out(self, task_id: int, limit_s: float, stack: str | None, where: str) -> None:
        """Let a call fail whose time was up, and Dask not try it again; the others of its bundle run again."""
        with self._changed:
            found = [(b, e) for b in self._sent for e in b.executions if e.task_id == task_id and not e.state.done]
            for bundle, execution in found:
                del self._sent[bundle]
                self._in_flight.subtract(e.name for e in bundle.executions if not e.state.has_value)
                bundle.executions.remove(execution)
                self._ended(execution, timeout_error(execution, limit_s, stack, where))
                self._requeue(bundle)
                bundle.executions = []
            self._changed.notify_all()
        if found and self._client is not None:
            within(_CANCEL_S, partial(self._client.cancel, [bundle.future for bundle, _ in found], force=True))

    def _may_hold(self, name: str) -> bool:
        return time.monotonic() - self._last_moved.setdefault(name, time.monotonic()) < _HOLD_S

    def _enough_to_do(self) -> bool:
        """Tell whether the workers have bundles enough; calls that wait meanwhile make larger ones."""
        if not self._queue or self._durations.calls_a_bundle(self._queue.first.name) == 1:
            return False
        return sum(len(bundle.executions) > 1 for bundle in self._sent) >= 2 * self._workers

    def _flush(self) -> None:
        """Send what can be sent."""
        with self._sending:
            bundles, graph, turns = self._next_graph()
            if not graph or self._client is None:
                if self._queue:
                    with self._changed:
                        self._changed.wait(_HELD_POLL_S)  # held back, until a duration is known or a worker is free
                return
            try:
                futures = send_graph(self._client, graph, turns if self._in_order else None)
            except Exception as error:
                if self._connection_is_lost(error):
                    raise
                with self._changed:
                    for bundle in bundles:
                        self._fail(bundle, error)
                    self._changed.notify_all()
                return
            with self._changed:
                for bundle in bundles:
                    if bundle.key in futures:
                        bundle.future = futures[bundle.key]
                        self._sent[bundle] = None
                self._changed.notify_all()

    def _next_graph(self) -> tuple[list[Bundle], dict[str, Any], dict[str, int]]:
        """Take from the queue what is to be sent now: bundles, and by key Dask tasks and whose turn it is first."""
        with self._changed:
            self._urgent = False
            while self._told:
                told = self._told.popleft()
                self._durations.observe(*told)
                self._last_moved[told[0]] = time.monotonic()
            if not self._queue or self._enough_to_do():
                return [], {}, {}
            bundles = plan(self._queue, self._durations, self._workers, self._in_flight, self._may_hold)
            graph: dict[str, Any] = {}
            turns: dict[str, int] = {}
            again: set[Execution] = set()
            now = time.monotonic()
            for bundle in bundles:
                bundle.executions = [e for e in bundle.executions if not self._fails_with_its_inputs(e)]
                if again and any(needed in again for e in bundle.executions for needed in e.state.needs):
                    again.update(bundle.executions)
                    self._take_back(bundle)
                elif bundle.executions:
                    try:
                        graph[bundle.key] = dask_task(bundle, self._run_id)
                        turns[bundle.key] = bundle.turn
                    except Exception as error:
                        if len(bundle.executions) == 1:
                            self._fail(bundle, error)
                        else:  # which of them is to blame shows when they go one by one
                            again.update(bundle.executions)
                            self._take_back(bundle, alone=True)
                for execution in bundle.executions:
                    self._last_moved[execution.name] = now
            return bundles, graph, turns

    def _take_back(self, bundle: Bundle, alone: bool = False) -> None:
        """Let the calls of a bundle that was not sent wait again."""
        self._in_flight.subtract(e.name for e in bundle.executions if not e.state.has_value)
        self._requeue(bundle, alone)
        bundle.executions = []

    def _fail(self, bundle: Bundle, error: Exception) -> None:
        """Let the calls of a bundle fail by a mistake of ours; whatever needs them fails with them."""
        executions, bundle.executions = bundle.executions, []
        for execution in executions:
            if not execution.state.has_value:
                self._in_flight[execution.name] -= 1
            execution.state.bundle = execution.state.position = None
            self._ended(execution, own_mistake(execution, error))

    def _fails_with_its_inputs(self, execution: Execution) -> bool:
        error = next((e.state.error for e in execution.state.needs if e.state.error is not None), None)
        if error is not None:
            self._in_flight[execution.name] -= 1
            self._ended(execution, error)
        return error is not None

    # --- what became of what was sent ---------------------------------------------------------------------------------

    def _poll_now_and_then(self) -> None:
        """Poll all that was sent, and spend at most a twentieth of the time on it."""
        start = time.monotonic()
        if start >= self._next_poll_s:
            self._poll(list(self._sent))
            end = time.monotonic()
            self._next_poll_s = end + max(_POLL_S / 2, 20 * (end - start))

    def _poll(self, bundles: Sequence[Bundle]) -> None:
        """Take note of those of the bundles that have ended."""
        ended = [bundle for bundle in bundles if bundle.future.status != "pending"]
        # Asked for before the lock is taken: the answer comes through the client's event loop.
        errors = {bundle: error_of(bundle) for bundle in ended if bundle.future.status == "error"}
        with self._changed:
            for bundle in [b for b in ended if b in self._sent and errors.get(b, b) is not None]:
                del self._sent[bundle]
                self._in_flight.subtract(e.name for e in bundle.executions if not e.state.has_value)
                try:
                    self._note(bundle, errors.get(bundle))
                except Exception as error:
                    for execution in bundle.executions:
                        self._ended(execution, own_mistake(execution, error))
                bundle.executions = []
            if ended:
                self._changed.notify_all()

    def _note_again(self, executions: Sequence[Execution]) -> bool:
        """Note the executions whose Dask task has failed after it had ended well; return whether there are any."""
        sent = [e for e in executions if e.state.bundle is not None and e.state.bundle.future.status == "error"]
        failed = {execution: error for execution in sent if (error := error_of(execution.state.bundle)) is not None}
        for execution, error in failed.items():
            self._ended(execution, own_error(execution, error))
        return bool(failed)

    def _note(self, bundle: Bundle, error: BaseException | None) -> None:
        if error is None and bundle.future.status == "finished":
            for execution in bundle.executions:
                self._ended(execution, None)
            return
        ours = bundle.key in (getattr(error, "key", None), getattr(error, "task", None))
        if isinstance(error, BundleFailed) and ours:
            for execution, (good, value) in zip(bundle.executions, error.outcomes, strict=True):
                if good:
                    self._rehouse(execution, value)
                else:
                    self._ended(execution, value.load())
        elif error is None or isinstance(error, (BundleFailed, KilledWorker)) and not ours:
            needed = [n for e in bundle.executions for n in e.state.needs if n.state.done and n.state.error is None]
            self._note_again(needed)
            self._requeue(bundle)  # cancelled, or what it needs was killed or failed: that one is dealt with on its own
        elif len(bundle.executions) > 1:
            self._requeue(bundle, alone=True)
        else:
            execution = bundle.executions[0]
            if isinstance(error, KilledWorker):
                error = TaskKilledError(execution.name, execution.task_id)
            self._ended(execution, error)

    def _requeue(self, bundle: Bundle, alone: bool = False) -> None:
        for execution in bundle.executions:
            self._count(execution, False)
            state: Pending = execution.state
            state.bundle = state.position = None
            state.done = False
            state.alone = state.alone or alone
            self._live[execution] = None
        self._queue.put_back(bundle.executions)

    def _rehouse(self, execution: Execution, result: Any) -> None:
        """Give a result a place of its own: the bundle that it came from failed through another call."""
        state: Pending = execution.state
        state.let_go()
        state.value = Carried(result) if type(result) is tuple else result
        state.has_value, state.bundle, state.position = True, None, None
        self._live[execution] = None
        self._queue.put_back([execution])

    def _ended(self, execution: Execution, error: BaseException | None) -> None:
        state: Pending = execution.state
        if state.done and error is state.error:
            return
        self._count(execution, error is None)
        state.done, state.error = True, error
        self._stragglers.moved(time.monotonic())
        state.let_go()
        self._live.pop(execution, None)
        if error is not None:
            self._unseen.add(execution, error)
        if self._tells_ended and execution.task_id:
            status = "finished" if error is None else "failed"
            self._observers.task_ended(TaskEnded(execution.task_id, execution.name, status))

    def _count(self, execution: Execution, runs_well: bool) -> None:
        """Count an execution as one that has ended well, or take that back."""
        state: Pending = execution.state
        counted = state.done and state.error is None
        if execution.task_id:
            self.ran_well += runs_well - counted

    def _explained(self, error: BaseException) -> BaseException:
        """Complete the error of a killed task with what was measured meanwhile; not under our lock: it may wait."""
        if type(error) is TaskKilledError and error.task_id is not None:
            tell_killed(error, self._killed_reason(error.task_id))
        elif type(error) is TaskTimeoutError:
            self._killed_reason(error.task_id)  # its record is waited for a little
        return error


def _classes_of(version: Version) -> frozenset[int]:
    found: frozenset[int] = version.execution.state.classes
    return found
