"""Reads the spools of nodes other than the master's, over the connections of Dask."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import distributed
from distributed import NannyPlugin, WorkerPlugin

from runmem.collection.pace import WantedInterval
from runmem.collection.spool_reader import CHUNK_BYTES, SpoolNews, SpoolQuestion, end_spool, read_spool_on
from runmem.dask_private import start_on_worker
from runmem.deadlines import TimedFunction, within
from runmem.errors import ClusterError
from runmem.store.node_name import machine_id, node_name
from runmem.units import MIB

__all__ = ["RemoteNodes"]

log = logging.getLogger(__name__)

_READ_WAIT_S = 1.0  # a node that does not answer delays the others no longer
_LEAST_WAIT_S = 0.25  # when others have used up that time
_END_WAIT_S = 5.0
_AT_ONCE = 64
_IN_FLIGHT_BYTES = 256 * MIB  # of all answers together
_LOOK_S_A_WORKER = 0.4e-3  # a look at the list of workers costs Dask 20 us for each: at most a twentieth of a core
_SCHEDULER_WAIT_S = 10.0
_LOST_AFTER_S = 1.0  # a worker that dies alone has its nanny send the last lines at once
_MOST_UNANSWERED = 3  # after this many reads without an answer another process of the node is asked


@dataclass
class _Node:
    """State of a node: the process that is asked, the question without an answer yet, and the last answer.

    `complete` once the last process there has left and sent its unread lines. `unanswered_reads`: number of reads in
    a row without an answer. `missing_since_s`: monotonic time since when it has no worker.
    """

    address: str
    nanny: bool
    asked: Future[Any] | None = None
    answered_s: float = 0.0
    trouble: str | None = None
    present: bool = True
    complete: bool = False
    unanswered_reads: int = 0
    missing_since_s: float | None = None


class RemoteNodes:
    """The other hosts that have workers of a run.

    One process of each host is asked: a nanny if there is one, because it outlives its worker, else a worker. Many are
    asked at the same time, and one that does not answer, because its network is cut, does not delay the others. When it
    is back, with the same workers or with new ones, reading goes on where it ended.

    Parameters
    ----------
    client : distributed.Client
    run_id : str
    interval_s : float or None
        Interval of the samplers; None where memory is not measured.
    at_once : int, optional
        How many nodes are asked at the same time: Dask needs half a millisecond for each, and has other work too.

    Attributes
    ----------
    silent : dict
        Description of each process that was asked and did not answer, by address.
    losses : dict
        Measurements and records that workers could not make or write: place to reason.
    unsure : set
        Workers, as (node, process id), that could not write all lines about their tasks.
    """

    def __init__(
        self, client: distributed.Client, run_id: str, interval_s: float | None, at_once: int = _AT_ONCE
    ) -> None:
        self._client = client
        self._info = TimedFunction(lambda: self._client.scheduler_info(n_workers=-1))
        self._run_id = run_id
        self._interval_s = interval_s
        self._at_once = at_once
        self._workers = 0
        self._next_look_s = 0.0
        self._names: dict[str, str] = {}  # worker address to node name
        self._machines: dict[str, str] = {node_name(): machine_id()}  # node name to machine
        self._nodes: dict[str, _Node] = {}
        self._last: deque[tuple[SpoolNews, bool]] = deque()
        self._trouble: str | None = None
        self._read_wait_s = _READ_WAIT_S
        self.silent: dict[str, str] = {}
        self.losses: dict[str, str] = {}
        self.unsure: set[tuple[str, int]] = set()

    def workers(self) -> int:
        """Return the present number of workers."""
        return len(self._scheduler_workers())

    def workers_changed(self, workers: int) -> None:
        """Handle a change of the number of workers; subclasses do."""

    def check_names(self) -> None:
        """Refuse two machines of one name: their tasks and traces could not be distinguished.

        Raises
        ------
        ClusterError
            With the name and the remedy.
        """
        self._learn(self._scheduler_workers())

    def reported(self, message: dict[str, Any]) -> bool:
        """Handle a report of a worker or a nanny about what it has written; return False for one about other things."""
        if "left" in message:
            self.left(message["left"], message["files"], message["more"], message.get("dead", ()))
        elif "lost" in message:
            self.losses[message["place"]] = message["lost"]
            if "pid" in message:
                self.unsure.add((message["node"], message["pid"]))
        else:
            return False
        return True

    def remove_plugins(self, plugins: Iterable[WorkerPlugin | NannyPlugin], seconds: float) -> None:
        """Remove plugins from the workers and nannies; wait so long for each."""
        for plugin in plugins:
            unregister = partial(self._client.unregister_worker_plugin, nanny=isinstance(plugin, NannyPlugin))
            try:
                within(seconds, unregister, plugin.name)
            except Exception as error:  # the workers are gone, were replaced, or one is stopped
                log.info("%s stays on the workers: %s", plugin.name, error)

    def left(self, name: str, files: dict[str, tuple[int, bytes]], more: bool, dead: Iterable[int] = ()) -> None:
        """Accept the last lines of a node, sent when its last process of the run left or died; from any thread."""
        read = {file: (begin, data) for file, (begin, data) in files.items()}
        self._last.append((SpoolNews(name, read, list(dead)), more))

    def unreached(self) -> dict[str, str]:
        """Return the nodes that could not be read to the end: node name to time and reason."""
        found = {}
        for name, node in self._nodes.items():
            if node.complete and not node.present:
                continue
            if node.trouble is not None or not node.present:
                since = time.strftime("%H:%M:%S", time.localtime(node.answered_s)) if node.answered_s else "the start"
                why = node.trouble or "its workers left the cluster"
                found[name] = f"not read since {since} ({why}): its later measurements are not here"
        if self._trouble is not None:
            found["the cluster"] = self._trouble
        return found

    def _scheduler_workers(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self._info(_SCHEDULER_WAIT_S)["workers"]
        if len(found) != self._workers:
            self._workers = len(found)
            self.workers_changed(self._workers)
        return found

    def _look_for_nodes(self) -> None:
        """Note the nodes that have workers now, and the process of each that is asked."""
        workers = self._scheduler_workers()
        self._next_look_s = time.monotonic() + _LOOK_S_A_WORKER * self._workers
        with suppress(ClusterError):  # reported when the run began
            self._learn(workers)
        for node in self._nodes.values():
            node.present = False
        for address, worker in workers.items():
            name = self._names.get(address)
            if name is None or name == node_name():
                continue
            nanny = bool(worker.get("nanny"))
            node = self._nodes.setdefault(name, _Node(address, nanny))
            if node.address not in workers or (node.unanswered_reads >= _MOST_UNANSWERED and address != node.address):
                if node.address in workers:
                    self.silent[node.address] = f"the process at {node.address} on node {name} does not answer"
                node.address, node.nanny, node.unanswered_reads = address, nanny, 0
                if node.asked is not None:  # the process that was asked is gone, or is stopped
                    node.asked.cancel()
                    node.asked = None
            node.present, node.complete = True, False

    def _learn(self, workers: dict[str, dict[str, Any]]) -> None:
        """Ask new workers for the name and the machine of their node."""
        new = [address for address in workers if address not in self._names]
        asked = {address: self._ask(_who, address, bool(workers[address].get("nanny"))) for address in new}
        wait(asked.values(), _READ_WAIT_S if self._nodes else _END_WAIT_S)
        for address, answer in asked.items():  # one that does not answer is asked again the next time
            if not answer.done():
                answer.cancel()
                continue
            if answer.exception() is None:
                name, machine = _only(answer)
                self._names[address] = name
                if self._machines.setdefault(name, machine) != machine:
                    raise ClusterError(
                        f"two machines are called {name} (one is at {address}): their tasks and traces could not be "
                        "distinguished. Give one another name: RUNMEM_NODE_NAME=... in the environment of its workers."
                    )

    def _ask(self, function: Callable[..., Any], address: str, nanny: bool, *arguments: Any) -> Future[Any]:
        return start_on_worker(self._client, function, *arguments, worker=address, nanny=nanny)

    def read(
        self,
        offsets: dict[str, dict[str, int]],
        to_free: Callable[[str], dict[str, int]],
        wanted: WantedInterval | None = None,
    ) -> Iterator[tuple[str, SpoolNews | str]]:
        """Yield the new lines of each node that answers soon.

        Parameters
        ----------
        offsets : dict
            How much of each file is known, by node.
        to_free : callable
            Returns the files to free on a node.
        wanted : WantedInterval, optional
            What the samplers are asked for.
        """
        try:
            if time.monotonic() >= self._next_look_s:
                self._look_for_nodes()
            self._trouble = None
        except Exception as error:
            self._trouble = f"{type(error).__name__}: {error}"
            return
        yield from self._last_news()
        yield from self._lost_nodes()
        most_bytes = min(CHUNK_BYTES, _IN_FLIGHT_BYTES // max(1, len(self._nodes)))
        names, patience_s = list(self._nodes), self._read_wait_s
        for first in range(0, len(names), self._at_once):
            nodes = {name: self._nodes[name] for name in names[first : first + self._at_once]}
            for name, node in nodes.items():
                if node.asked is None and node.present:
                    known, to_free_there = offsets.get(name, {}), to_free(name)
                    question = SpoolQuestion(self._run_id, known, self._interval_s, to_free_there, wanted, most_bytes)
                    node.asked = self._ask(read_spool_on, node.address, node.nanny, question)
            began_s = time.monotonic()
            asked = [node.asked for node in nodes.values() if node.asked is not None]
            slow = wait(asked, max(patience_s, _LEAST_WAIT_S)).not_done
            if slow:
                patience_s -= time.monotonic() - began_s
            yield from self._answers(nodes, slow)

    def _lost_nodes(self) -> Iterator[tuple[str, SpoolNews]]:
        """Yield a note about each node whose workers are gone and have not sent their last lines."""
        now_s = time.monotonic()
        for name, node in self._nodes.items():
            if node.present or node.complete:
                node.missing_since_s = None
            elif node.missing_since_s is None:
                node.missing_since_s, self._next_look_s = now_s, 0.0
            elif now_s - node.missing_since_s > _LOST_AFTER_S:
                yield name, SpoolNews(name, {}, is_lost=True)

    def _answers(self, nodes: dict[str, _Node], slow: set[Future[Any]]) -> Iterator[tuple[str, SpoolNews | str]]:
        """Yield the answers of nodes that were asked, except those in `slow`."""
        for name, node in nodes.items():
            if node.asked is None:
                continue
            if node.asked in slow:
                node.trouble = node.trouble or "it does not answer"
                node.unanswered_reads += 1
                continue
            answer, node.asked, node.unanswered_reads = node.asked, None, 0
            try:
                news = _only(answer)
            except Exception as error:
                node.trouble = f"{type(error).__name__}: {error}"
                self._next_look_s = 0.0  # the process may be gone, and another there
                continue
            if isinstance(news, SpoolNews):
                node.answered_s, node.trouble = time.time(), None
                yield name, news
            else:
                node.trouble = str(news)

    def _last_news(self) -> Iterator[tuple[str, SpoolNews]]:
        while self._last:
            news, more = self._last.popleft()
            if (node := self._nodes.get(news.node)) is not None:
                node.complete = not more
            yield news.node, news

    def unanswered(self, function: Callable[..., Any], *arguments: Any, seconds: float = _END_WAIT_S) -> list[str]:
        """Call a function on all workers at the same time; return the addresses of those that do not answer in time."""
        asked = {address: self._ask(function, address, False, *arguments) for address in self._scheduler_workers()}
        wait(asked.values(), seconds)
        return [address for address, answer in asked.items() if not answer.done()]

    def end(self, remove: bool) -> None:
        """End the samplers of the other nodes, or remove their spools; nodes that do not answer keep theirs."""
        self._read_wait_s = _END_WAIT_S  # the next read is the last
        with suppress(Exception):
            self._look_for_nodes()
        wait([self._ask(end_spool, node.address, node.nanny, self._run_id, remove)
              for node in self._nodes.values() if node.present], _END_WAIT_S)  # fmt: skip


def _who() -> tuple[str, str]:
    return node_name(), machine_id()


def _only(answer: Future[Any]) -> Any:
    return next(iter(answer.result().values()), "no answer")
