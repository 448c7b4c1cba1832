"""All uses of Dask beyond its public interface; `tests/test_dask_private.py` checks them.

- `dask._task_spec.Task` and `TaskRef`: a graph with exact dependencies. The public tuple form is searched recursively
  for keys, which costs time and could take a user's string for one.
- The `interval` of the batched connections: the time that a message waits for others. Dask's defaults (2 to 10 ms) make
  up most of the time of a short task. And their `recent_message_log`, which keeps the packed calls of long ago.
- `read_bytes_rw` of its TCP: when memory is allocated for data from other processes, and when the data are complete.
- `TaskState.suspicious` on the scheduler: how many workers have died while a task was to run there.
- `WorkerProcess.mark_stopped` of its nanny: the exit code of a worker; Dask logs only codes other than 0.
- `Worker.scheduler`: calls an operation of the scheduler.
- `Client._run`, `Client._run_on_scheduler`: `Client.run` waits for every answer, for half a minute when a network is
  cut, and for ever if a worker is stopped.
- `Worker.state.tasks`: the tasks that a worker has begun. Their `run_spec` is what it calls: the only place where code
  can run before and after any task in the task's own thread; a plugin's `transition` runs in the event loop.
- `Worker.metrics`: what a worker reports with each heartbeat, and the scheduler shows in the worker's `metrics`.
- `Worker.executors["actor"]`: runs the methods of actors.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, NamedTuple, Protocol

import dask
import distributed
from dask._task_spec import Task, TaskRef
from distributed.comm import tcp
from distributed.nanny import WorkerProcess

from runmem.deadlines import within

__all__ = [
    "AroundExecutor",
    "AroundTask",
    "Surrounding",
    "WorkerTask",
    "ask_scheduler",
    "count_deaths",
    "has_begun",
    "is_wanted",
    "memory_in_use",
    "report_level",
    "run_on_workers",
    "send_graph",
    "set_worker_memory_limit",
    "size_of_task",
    "start_on_worker",
    "surround_actors",
    "surround_task",
    "report_exits",
    "report_no_receiving",
    "report_receiving",
    "tune_streams",
    "uncover_all_tasks",
    "uncover_task",
    "worker_memory_limit",
]

_INTERVAL_S = 0.0005
_LOGGED_MESSAGES = 10
_ANSWER_S = 10.0


class Receiver(Protocol):
    """Follows the data that a process receives."""

    def receiving(self, size_bytes: int) -> object:
        """Note that so many bytes begin to arrive; return an object that identifies them."""

    def received(self, coming: Any, block: object) -> None:
        """Note that they have arrived, in `block`; None: they have not."""


def send_graph(
    client: distributed.Client,
    graph: Mapping[str, tuple[Callable[..., object], Iterable[object], Iterable[str]]],
    turns: Mapping[str, int] | None = None,
    hosts: Sequence[str] | None = None,
) -> dict[str, distributed.Future]:
    """Send tasks and return their futures at once.

    Parameters
    ----------
    graph : mapping
        Key to (function, literal arguments, keys whose values follow as arguments). Keys outside the graph must belong
        to futures that are alive.
    turns : mapping, optional
        Ranks by key: of the tasks that can run, the lowest runs first. Default: the order that Dask chooses.
    hosts : sequence of str, optional
        Hosts on which the tasks run, as long as these have workers. Default: any.
    """
    tasks = {
        key: Task(key, function, *literals, *(TaskRef(name) for name in inputs))
        for key, (function, literals, inputs) in graph.items()
    }
    keys = list(tasks)
    # Large arguments are part of the graph: a decision of runmem, of which the user needs no warning.
    priority = {} if turns is None else {"priority": {key: -turn for key, turn in turns.items()}.get}
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TiB"}), dask.annotate(**priority):
        restricted = {} if hosts is None else {"workers": list(hosts), "allow_other_workers": True}
        return dict(zip(keys, client.get(tasks, keys, sync=False, **restricted), strict=True))


def _tune(stream: Any) -> None:
    if hasattr(stream, "interval"):
        stream.interval = _INTERVAL_S
    log = getattr(stream, "recent_message_log", None)
    if log is not None and log.maxlen != _LOGGED_MESSAGES:
        stream.recent_message_log = deque(log, _LOGGED_MESSAGES)


def _tune_worker(dask_worker: Any) -> None:
    _tune(getattr(dask_worker, "batched_stream", None))


def _tune_scheduler(dask_scheduler: Any) -> None:
    for stream in getattr(dask_scheduler, "stream_comms", {}).values():
        _tune(stream)


def tune_streams(client: distributed.Client) -> None:
    """Make the batched connections of client, scheduler and workers quicker, and shorten the logs of their messages.

    Messages then wait less for others. Dask keeps the last 1,000 messages of each connection, with all the calls in
    them. Wait for no answer: a stopped worker gives none.
    """
    _tune(getattr(client, "scheduler_comm", None))
    with suppress(Exception):  # with another version of Dask runmem is slower, but works
        loop = client.loop.asyncio_loop
        asyncio.run_coroutine_threadsafe(client._run_on_scheduler(_tune_scheduler), loop)
        asyncio.run_coroutine_threadsafe(client._run(_tune_worker, on_error="ignore"), loop)


def start_on_worker(
    client: distributed.Client, function: Callable[..., object], *arguments: object, worker: str, nanny: bool
) -> Future[Any]:
    """Start a call on one worker or its nanny, as `Client.run` does; do not wait for the answer: it may never come."""
    run = client._run(function, *arguments, workers=[worker], nanny=nanny)
    begun: Future[Any] = asyncio.run_coroutine_threadsafe(run, client.loop.asyncio_loop)
    return begun


def ask_scheduler(operation: str, **arguments: object) -> Any:
    """Return the answer of the scheduler to an operation that a plugin of ours has added; called inside a task.

    Raises
    ------
    TimeoutError
        If it does not answer, as when it has no such plugin.
    """
    worker = distributed.get_worker()

    async def ask() -> Any:
        return await getattr(worker.scheduler, operation)(**arguments)

    return asyncio.run_coroutine_threadsafe(ask(), worker.loop.asyncio_loop).result(_ANSWER_S)


def run_on_workers(
    client: distributed.Client, function: Callable[..., object], *arguments: object, seconds: float
) -> dict[str, object]:
    """Call a function in all worker processes at the same time.

    Return the answers by the address of the worker; None for one that does not answer within `seconds`, or fails.
    """
    workers = within(seconds, lambda: list(client.scheduler_info(n_workers=-1)["workers"]))
    asked = {worker: start_on_worker(client, function, *arguments, worker=worker, nanny=False) for worker in workers}
    wait(asked.values(), seconds)
    return {worker: _answer(future, worker) for worker, future in asked.items()}


def _answer(future: Future[Any], worker: str) -> object:
    return future.result().get(worker) if future.done() and future.exception() is None else None


_NOT_BEGUN = ("released", "waiting", "ready", "constrained", "forgotten")


def has_begun(worker: Any, key: str) -> bool:
    """Return True if a worker has begun a Dask task, or has its result; call it in the worker's event loop."""
    task = worker.state.tasks.get(key)
    return task is not None and task.state not in _NOT_BEGUN


def is_wanted(worker: Any, key: Any) -> bool:
    """Return True unless the scheduler no longer wants a task that a worker runs; from any thread."""
    task = worker.state.tasks.get(key)
    return task is not None and task.state != "cancelled"


class WorkerTask(NamedTuple):
    """A task that a worker is about to run.

    Attributes
    ----------
    key : object
        A text, or a tuple that begins with one.
    number : int
        Number of this execution on its scheduler, from 1.
    prefix : str
        First part of the key, by which Dask groups tasks.
    annotations : dict
    inputs : list of (key, int or None)
        Keys and sizes, in bytes, of the results that it takes.
    """

    key: Any
    number: int
    prefix: str
    annotations: dict[str, Any]
    inputs: list[tuple[Any, int | None]]


class Surrounding(Protocol):
    """Runs before and after the call of a task, in its thread; its methods must not raise, except `begin`."""

    def begin(self) -> None:
        """The call begins; an exception keeps it from that."""

    def end(self, result: Any, error: BaseException | None) -> None:
        """The call has returned `result`, or raised `error`."""


class AroundTask:
    """What a worker calls in place of a task: the task, and what surrounds it.

    Attributes
    ----------
    plain : object
        The task.
    surroundings : list of Surrounding
    """

    __slots__ = ("plain", "surroundings")

    def __init__(self, plain: Any, surroundings: list[Surrounding]) -> None:
        self.plain = plain
        self.surroundings = surroundings

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)

    def __repr__(self) -> str:
        return repr(self.plain)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self.plain,)

    @property
    def is_coro(self) -> bool:
        """Whether the call returns a coroutine."""
        return bool(self.plain.is_coro)

    def __call__(self, data: Any = ()) -> Any:
        if self.is_coro:
            return self._awaited(data)
        with self._surrounded() as results:
            results.append(self.plain(data))
        return results[0]

    async def _awaited(self, data: Any) -> Any:
        with self._surrounded() as results:
            results.append(await self.plain(data))
        return results[0]

    @contextmanager
    def _surrounded(self) -> Iterator[list[Any]]:
        """Begin all, and end them in reverse order; yield a list that takes the result."""
        surroundings: list[Surrounding] = []
        results: list[Any] = []
        try:
            for each in list(self.surroundings):
                each.begin()
                surroundings.append(each)
            yield results
        except BaseException as error:
            for each in reversed(surroundings):
                each.end(None, error)
            raise
        for each in reversed(surroundings):
            each.end(results[0], None)


def _itself(task: Any) -> Any:
    return task


def surround_task(worker: Any, key: Any, make: Callable[[WorkerTask], Surrounding]) -> str | None:
    """Surround the call of a task that a worker is about to run; called in the worker's event loop.

    Return None, or the reason why that is not possible.
    """
    task = worker.state.tasks[key]
    executor = worker.executors.get(task.annotations.get("executor", "default") if task.annotations else "default")
    if "ThreadPoolExecutor" not in str(type(executor)) and not task.run_spec.is_coro:
        return f"they run in an executor of the type {type(executor).__name__}, outside the worker's process"
    inputs = [(each.key, each.nbytes) for each in task.dependencies]
    around = make(WorkerTask(key, task.run_id + 1, task.prefix, task.annotations or {}, inputs))
    if isinstance(task.run_spec, AroundTask):
        task.run_spec.surroundings.append(around)
    else:
        task.run_spec = AroundTask(task.run_spec, [around])
    return None


def uncover_task(worker: Any, key: Any) -> None:
    """Put a task in the place of what surrounds it, if something does; called in the worker's event loop."""
    task = worker.state.tasks.get(key)
    if task is not None and isinstance(task.run_spec, AroundTask):
        task.run_spec = task.run_spec.plain


def uncover_all_tasks(worker: Any) -> None:
    """Do `uncover_task` for all tasks of a worker."""
    for key in list(worker.state.tasks):
        uncover_task(worker, key)


class AroundExecutor(Executor):
    """Has another executor run functions, each inside of contexts.

    Attributes
    ----------
    plain : Executor
    contexts : list of callable
        Each returns the context of one call.
    """

    def __init__(self, plain: Executor) -> None:
        self.plain = plain
        self.contexts: list[Callable[[], AbstractContextManager[object]]] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        return self.plain.submit(self._call, function, arguments, named)

    def _call(self, function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        with ExitStack() as stack:
            for context in list(self.contexts):
                stack.enter_context(context())
            return function(*arguments, **named)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.plain.shutdown(wait=wait)


def surround_actors(worker: Any, context: Callable[[], AbstractContextManager[object]]) -> Callable[[], None]:
    """Run the methods of a worker's actors inside of a context; return a function that ends that."""
    around = worker.executors["actor"]
    if not isinstance(around, AroundExecutor):
        around = worker.executors["actor"] = AroundExecutor(around)
    around.contexts.append(context)

    def end() -> None:
        around.contexts.remove(context)
        if not around.contexts and worker.executors.get("actor") is around:
            worker.executors["actor"] = around.plain

    return end


def size_of_task(worker: Any, key: Any) -> int | None:
    """Return the size of a task's result in bytes by Dask's estimate, None if unknown; in the event loop."""
    task = worker.state.tasks.get(key)
    return None if task is None else task.nbytes


def count_deaths(scheduler: Any, key: object, deaths: int) -> None:
    """Set how many workers have died while a task was to run there, as Dask counts; called on the scheduler.

    Dask gives it up with the death that comes after `allowed_failures`.
    """
    task = scheduler.tasks.get(key)
    if task is not None and task.suspicious != deaths:
        task.suspicious = deaths


_exit_listeners: list[Callable[[int, int], None]] = []


def report_exits(listener: Callable[[int, int], None]) -> Callable[[], None]:
    """Report the process id and exit code of each worker that ends under a nanny of this process.

    Returns
    -------
    callable
        Ends the reports.

    Notes
    -----
    Dask does not log a worker that ends with code 0.
    """
    plain = WorkerProcess.mark_stopped
    if not hasattr(plain, "reports_exits"):

        def mark_stopped(self: Any) -> None:
            process = self.process
            pid, code = (process.pid, process.exitcode) if process is not None else (None, None)
            if pid is not None and code is not None:
                for each in list(_exit_listeners):
                    with suppress(Exception):
                        each(pid, code)
            plain(self)

        mark_stopped.reports_exits = True  # type: ignore[attr-defined]
        WorkerProcess.mark_stopped = mark_stopped
    _exit_listeners.append(listener)
    return lambda: _exit_listeners.remove(listener)


def worker_memory_limit(worker: Any) -> int | None:
    """Return the memory limit of a Dask worker in bytes, or None if it has none."""
    return getattr(getattr(worker, "memory_manager", None), "memory_limit", None)


_LEVEL = "runmem_level_bytes"


def report_level(worker: Any, level_bytes: Callable[[], int | None] | None) -> None:
    """Have a worker report with each heartbeat what it has in use without its running calls; None: no longer."""
    if level_bytes is None:
        worker.metrics.pop(_LEVEL, None)
    else:
        worker.metrics[_LEVEL] = lambda _: level_bytes()


def memory_in_use(worker: Mapping[str, Any]) -> tuple[int, int]:
    """Return what a worker had in use at its last heartbeat, in bytes: without its running calls, and with them.

    `worker`: the scheduler's description of it, as in `Client.scheduler_info`.
    """
    metrics = worker.get("metrics") or {}
    resident = metrics.get("memory") or 0
    level = metrics.get(_LEVEL)
    return resident if level is None else level, resident


def set_worker_memory_limit(server: Any, limit_bytes: int | None) -> None:
    """Set the memory limit of a Dask worker, or the one at which a nanny ends its worker; in its process.

    It does so only where there is a limit.
    """
    if worker_memory_limit(server):
        server.memory_manager.memory_limit = limit_bytes


def report_receiving(receiver: Receiver) -> bool:
    """Report each block of memory into which this process receives data; return False if that is impossible.

    It does so until `report_no_receiving`.
    """
    reading = getattr(tcp, "read_bytes_rw", None)
    if reading is None:
        return False
    plain = getattr(reading, "plain", reading)

    async def read_bytes_rw(stream: Any, size: int) -> Any:
        coming = receiver.receiving(size)
        block = None
        try:
            block = await plain(stream, size)
        finally:
            receiver.received(coming, getattr(block, "obj", None))
        return block

    read_bytes_rw.plain = plain  # type: ignore[attr-defined]
    tcp.read_bytes_rw = read_bytes_rw
    return True


def report_no_receiving() -> None:
    """End what `report_receiving` has begun; does nothing if it has not."""
    reading = getattr(tcp, "read_bytes_rw", None)
    tcp.read_bytes_rw = getattr(reading, "plain", reading)
