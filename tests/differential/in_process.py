"""A Dask cluster that is no process: its workers run a bundle when they are told to, in an order that a seed chooses.

It stands where `distributed.Client` does. What is sent, kept and fetched is pickled as it would be on its way; workers
die, and what they had is made again, as Dask does it. There is one thread, so the same seed gives the same run.
"""

from __future__ import annotations

import contextvars
import hashlib
import pickle
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

from dask._task_spec import Task, TaskRef
from distributed.client import _current_client
from distributed.protocol import pickle as dask_pickle
from distributed.scheduler import KilledWorker

from runmem.collection.observer import Observers
from runmem.execution import call_table, next_bundles, sender, submitter
from runmem.execution.run_services import RunServices
from runmem.execution.sender import Sender
from runmem.execution.submitter import DaskSubmitter
from runmem.graph.call import TaskCall
from runmem.graph.current import current_program, set_current_program
from runmem.serialization.large_values import LargeValues
from runmem.serialization.packed import Buffer
from runmem.serialization.program_copy import ProgramCopies
from runmem.worker import loaded_tasks
from runmem.worker.bundle_runner import run_bundle

__all__ = ["Schedule", "SteppedSubmitter", "stepped"]

_MOST_STEPS = 20_000
_ALLOWED_FAILURES = 3


class Schedule(NamedTuple):
    """What happens when.

    Attributes
    ----------
    seed : int
        Chooses which task runs next, on which worker, and when the program's calls are sent.
    workers : int
    short : float
        Share of the functions whose calls are said to be so short that they are bundled.
    known : float
        Share of the functions of which it is known from the first call on how long they last, and of the bundles that
        tell it.
    deaths : float
        Chance that a worker dies of a Dask task that it is given; never so often that a call by itself is given up.
    eager : float
        Chance that what is queued is sent after a call.
    kept_bytes : int
        Size of the large values of the program that the submitter keeps for later calls.
    """

    seed: int = 0
    workers: int = 2
    short: float = 0.0
    known: float = 1.0
    deaths: float = 0.0
    eager: float = 0.3
    kept_bytes: int = 2**26


@dataclass(eq=False)
class _Worker:
    data: dict[str, Any] = field(default_factory=dict)
    copies: ProgramCopies = field(default_factory=ProgramCopies)


@dataclass(eq=False)
class _Key:
    """A Dask task, as the scheduler has it."""

    name: str
    run: tuple[bytes, list[bytes]] = field(repr=False)
    needs: list[str]
    calls: int
    wanted: bool = True
    state: str = "waiting"  # to be run; or "memory", "released", "error"
    was_there: bool = False
    error: BaseException | None = None
    failures: int = 0


class _Future:
    """What the submitter uses of a Dask future."""

    def __init__(self, cluster: InProcessCluster, key: str) -> None:
        self._cluster, self.key = cluster, key

    @property
    def status(self) -> str:
        key = self._cluster.keys[self.key]
        if key.state == "memory":
            return "finished"
        return "error" if key.state == "error" else "lost" if key.was_there else "pending"

    def exception(self, timeout: Any = None) -> BaseException | None:
        error = self._cluster.keys[self.key].error
        return None if error is None else _travelled(error)

    def __del__(self) -> None:
        self._cluster.unwanted.append(self.key)  # at any time: nothing else is done now


def _pickled(value: Any) -> tuple[bytes, list[bytes]]:
    buffers: list[Any] = []
    data = dask_pickle.dumps(value, buffer_callback=buffers.append)
    return data, [bytes(buffer.raw()) for buffer in buffers]


def _travelled(value: Any) -> Any:
    data, buffers = _pickled(value)
    return dask_pickle.loads(data, buffers=[bytearray(buffer) for buffer in buffers])


class InProcessCluster:
    """Implements what the submitter uses of `distributed.Client`, and runs the tasks.

    Parameters
    ----------
    schedule : Schedule
    told : callable
        Takes what a worker tells of how long calls last.
    doomed : frozenset of int
        Numbers of calls that kill their worker whenever they run.
    """

    status = "running"

    def __init__(
        self,
        schedule: Schedule,
        told: Callable[[str, int, float, int], None],
        doomed: frozenset[int] = frozenset(),
    ) -> None:
        self.keys: dict[str, _Key] = {}
        self.unwanted: deque[str] = deque()
        self.steps = 0
        self.deaths = 0
        self.bundles = 0
        self._schedule = schedule
        self._told = told
        self._doomed = doomed
        self.chance = random.Random(schedule.seed)
        self._workers = [_Worker() for _ in range(schedule.workers)]

    # --- as a client --------------------------------------------------------------------------------------------------

    def get(self, tasks: dict[str, Task], keys: list[str], sync: bool) -> list[_Future]:
        """Take a graph; return its futures."""
        for name, task in tasks.items():
            needs = [argument.key for argument in task.args if type(argument) is TaskRef]
            literals = [argument for argument in task.args if type(argument) is not TaskRef]
            calls = len(_calls(literals)) if task.func is run_bundle else 0
            self.bundles += calls > 1
            self.keys[name] = _Key(name, _pickled((task.func, literals)), needs, calls)
        missing = {need for name in tasks for need in self.keys[name].needs} - self.keys.keys()
        assert not missing, f"the graph needs keys that nobody has: {missing}"
        for name in tasks:
            self._blame(self.keys[name])
        return [_Future(self, name) for name in keys]

    def gather(self, futures: Sequence[_Future]) -> list[Any]:
        """Return results; raise the error of the first that has one."""
        self._until(lambda: all(self.keys[future.key].state in ("memory", "error") for future in futures))
        for future in futures:
            if (error := future.exception()) is not None:
                raise error
        return [_travelled(self._holder(future.key).data[future.key]) for future in futures]

    def sync(self, function: Any, futures: Sequence[_Future], **_: Any) -> None:
        """Do what `distributed.wait` asks for."""
        self._until(lambda: all(future.status in ("finished", "error") for future in futures))

    @contextmanager
    def as_current(self) -> Iterator[None]:
        """Let `distributed.wait` find this."""
        token = _current_client.set(self)
        try:
            yield
        finally:
            _current_client.reset(token)

    # --- as a scheduler -----------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Run one task, or let a worker die of it; return whether there was any."""
        self.steps += 1
        assert self.steps < _MOST_STEPS, "it does not come to an end"
        self._tidy()
        self._make_again()
        ready = [key for key in self.keys.values() if key.state == "waiting" and self._is_ready(key)]
        if not ready:
            return False
        key, worker = self.chance.choice(ready), self.chance.choice(self._workers)
        if self._dies(key):
            self._die(worker, key)
        else:
            self._run(worker, key)
        return True

    def _until(self, there: Callable[[], bool]) -> None:
        while not there():
            assert self.step(), f"nothing can run, and this is waited for: {self.keys}"

    def _make_again(self) -> None:
        """Let results that were let go, and are needed again, be made again."""
        waiting = [key for key in self.keys.values() if key.state == "waiting"]
        while waiting:
            for need in map(self.keys.__getitem__, waiting.pop().needs):
                if need.state == "released":
                    need.state = "waiting"
                    waiting.append(need)

    def _is_ready(self, key: _Key) -> bool:
        return all(self.keys[name].state == "memory" for name in key.needs)

    def _dies(self, key: _Key) -> bool:
        if not key.calls:
            return False
        if self._doomed and any(call.task_id in self._doomed for call in _calls(self._loaded(key)[1])):
            return True
        can_fail = key.failures < _ALLOWED_FAILURES or key.calls > 1 and not key.was_there
        return can_fail and self.chance.random() < self._schedule.deaths

    def _die(self, worker: _Worker, key: _Key) -> None:
        """Lose what a worker has; another takes its place."""
        self.deaths += 1
        self._workers[self._workers.index(worker)] = _Worker()
        key.failures += 1
        if key.failures > _ALLOWED_FAILURES:
            self._fail(key, KilledWorker(key.name, SimpleNamespace(address="in this process"), _ALLOWED_FAILURES))
        for name in worker.data:
            lost = self.keys.get(name)
            if lost is not None and lost.state == "memory" and not any(name in w.data for w in self._workers):
                lost.state = "waiting" if lost.wanted or self._is_waited_for(lost) else "released"

    def _fail(self, key: _Key, error: BaseException) -> None:
        key.state, key.error = "error", error
        for other in list(self.keys.values()):
            if key.name in other.needs and other.state in ("waiting", "released"):
                self._fail(other, error)

    def _blame(self, key: _Key) -> None:
        failed = next((self.keys[name] for name in key.needs if self.keys[name].state == "error"), None)
        if failed is not None and failed.error is not None:
            self._fail(key, failed.error)

    def _is_waited_for(self, key: _Key) -> bool:
        return any(key.name in other.needs and other.state == "waiting" for other in self.keys.values())

    def _tidy(self) -> None:
        """Let go of results that nobody needs, and forget keys that nobody knows."""
        while self.unwanted:
            self.keys[self.unwanted.popleft()].wanted = False
        for key in list(self.keys.values()):
            if key.state == "memory" and not key.wanted and not self._is_waited_for(key):
                key.state = "released"
                for worker in self._workers:
                    worker.data.pop(key.name, None)
        while True:
            needed = {name for key in self.keys.values() for name in key.needs}
            gone = [key for key in self.keys.values() if not key.wanted and key.name not in needed]
            if not gone:
                return
            for key in gone:
                del self.keys[key.name]

    # --- as a worker --------------------------------------------------------------------------------------------------

    def _holder(self, name: str) -> _Worker:
        return next(worker for worker in self._workers if name in worker.data)

    def _loaded(self, key: _Key) -> tuple[Callable[..., Any], list[Any]]:
        data, buffers = key.run
        found: tuple[Callable[..., Any], list[Any]] = dask_pickle.loads(data, buffers=map(bytearray, buffers))
        return found

    def _run(self, worker: _Worker, key: _Key) -> None:
        function, literals = self._loaded(key)
        for name in key.needs:
            if name not in worker.data:
                worker.data[name] = _travelled(self._holder(name).data[name])
        needs = [worker.data[name] for name in key.needs]
        try:
            with _on(worker):
                result = contextvars.Context().run(function, *literals, *needs)
        except Exception as error:
            self._fail(key, _travelled(error))
            return
        finally:
            if function is run_bundle:
                for task in literals[2]:
                    self.tell(task.name)
        worker.data[key.name] = result
        key.state, key.was_there = "memory", True

    def tell(self, name: str) -> None:
        """Tell the submitter, perhaps, how long a call lasts."""
        if self.chance.random() < self._schedule.known:
            self._told(name, 1, self._duration_s(name), 100)

    def _duration_s(self, name: str) -> float:
        digest = hashlib.sha256(f"{self._schedule.seed} {name}".encode()).digest()
        return 0.001 if digest[0] / 256 < self._schedule.short else 1.0


def _calls(literals: Sequence[Any]) -> Any:
    data = literals[3]
    return pickle.loads(data.data if isinstance(data, Buffer) else data)


@contextmanager
def _on(worker: _Worker) -> Iterator[None]:
    """Let what runs meanwhile be in a process of its own, as far as runmem can tell."""
    program = current_program()
    set_current_program(None)
    try:
        with mock.patch.object(loaded_tasks, "program_copies", worker.copies):
            yield
    finally:
        set_current_program(program)


class _Clock:
    """Time that passes when it is looked at."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def monotonic(self) -> float:
        self._now_s += 0.001
        return self._now_s


class _Turns:
    """Stands where the submitter's condition does: to wait is to let the other side have its turn."""

    def __init__(self, turn: Callable[[], None]) -> None:
        self._turn = turn
        self._under_way = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def notify_all(self) -> None:
        pass

    def wait(self, timeout: float | None = None) -> None:
        if not self._under_way:
            self.turn()

    def turn(self) -> None:
        self._under_way = True
        try:
            self._turn()
        finally:
            self._under_way = False


class _SteppedSender(Sender):
    """Sends when the schedule says so: there is no thread."""

    def start(self) -> None:
        pass


class SteppedSubmitter(DaskSubmitter):
    """The submitter on a cluster in this process; what its thread does is done when the schedule says so."""

    def __init__(self, schedule: Schedule, doomed: frozenset[int] = frozenset()) -> None:
        services = RunServices("differential", _no_connection, Observers([]), lambda task_id: None)
        super().__init__(services)
        self.sender = _SteppedSender(self.calls, services)
        self.cluster = InProcessCluster(schedule, self.sender.report_durations, doomed)
        self._schedule = schedule
        self._large = LargeValues(self._send_value, schedule.kept_bytes)
        self.sender.client, self.sender.workers = self.cluster, schedule.workers
        self.calls.changed = _Turns(self._have_turn)
        self._called: set[str] = set()

    def submit(self, call: TaskCall, resolve: Any) -> None:
        name = call.execution.name
        if name not in self._called:
            self._called.add(name)
            self.cluster.tell(name)
        super().submit(call, resolve)
        if self.cluster.chance.random() < self._schedule.eager:
            self.calls.changed.turn()

    def _have_turn(self) -> None:
        if self.cluster.chance.random() < 0.5:
            self.cluster.step()
        self.sender.run_once()
        if self.cluster.chance.random() < 0.5:
            self.cluster.step()


def _no_connection() -> Any:
    raise AssertionError("there is a client already")


@contextmanager
def stepped(schedule: Schedule, doomed: frozenset[int] = frozenset()) -> Iterator[SteppedSubmitter]:
    """Give a submitter on a cluster in this process, where no time passes."""
    clock = _Clock()
    with ExitStack() as stack:
        for module in (call_table, next_bundles, sender, submitter):
            stack.enter_context(mock.patch.object(module, "time", clock))
        made = SteppedSubmitter(schedule, doomed)
        try:
            yield made
        finally:
            made.close()
