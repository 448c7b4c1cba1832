"""Reaches the spools of nodes other than the master's, over the connections that Dask has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import distributed

from runmem.execution.spool_reader import SpoolNews, end_spool, read_spool_on
from runmem.store.node_name import node_name

__all__ = ["RemoteNodes"]


class RemoteNodes:
    """The other nodes that have workers of a run.

    One process a node is asked: a nanny where there is one, because it outlives its worker, else a worker. Nodes are
    told apart by what they call themselves, not by their addresses: a host may have several of those, and several of
    Slurm's nodes may share one.
    """

    def __init__(self, client: distributed.Client, run_id: str, interval_s: float | None) -> None:
        self._client = client
        self._run_id = run_id
        self._interval_s = interval_s
        self._workers = 0
        self._nodes: dict[str, str] = {}  # worker address to node name

    def workers(self) -> int:
        """Return the number of workers that the cluster has now."""
        return len(self._scheduler_workers())

    def workers_changed(self, workers: int) -> None:
        """The number of workers is another than it was; subclasses act on it."""

    def _scheduler_workers(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self._client.scheduler_info(n_workers=-1)["workers"]
        if len(found) != self._workers:
            self._workers = len(found)
            self.workers_changed(self._workers)
        return found

    def _agents(self) -> Iterator[tuple[str, str, bool]]:
        """Yield (node, worker address, whether its nanny is asked) for each node that is not this one."""
        workers = self._scheduler_workers()
        self._learn_nodes(workers)
        nodes: dict[str, tuple[str, bool]] = {}
        for address, worker in workers.items():
            if address in self._nodes and self._nodes[address] != node_name():
                nodes.setdefault(self._nodes[address], (address, bool(worker.get("nanny"))))
        for node, (address, nanny) in nodes.items():
            yield node, address, nanny

    def _learn_nodes(self, workers: dict[str, dict[str, Any]]) -> None:
        """Ask the workers that came since the last time for the name of their node."""
        new = [address for address in workers if address not in self._nodes]
        for nanny in (True, False):
            asked = [address for address in new if bool(workers[address].get("nanny")) is nanny]
            if asked:  # who does not answer is asked again the next time
                self._nodes |= self._client.run(node_name, workers=asked, nanny=nanny, on_error="ignore")

    def read(self, offsets: dict[str, dict[str, int]]) -> Iterator[tuple[str, SpoolNews | str]]:
        """Yield what is new on each node, given the offsets by node; an error comes as text."""
        try:
            agents = list(self._agents())
        except Exception as error:
            yield "the cluster", f"{type(error).__name__}: {error}"
            return
        for node, address, nanny in agents:
            known = offsets.get(node, {})
            try:
                answer = self._client.run(
                    read_spool_on, self._run_id, known, self._interval_s, workers=[address], nanny=nanny
                )
            except Exception as error:
                yield node, f"{type(error).__name__}: {error}"
                continue
            news: Any = next(iter(answer.values()), "no answer")
            yield node, news

    def end(self, remove: bool) -> None:
        """Tell the samplers of the other nodes to end, or remove their spools."""
        with suppress(Exception):
            for _, address, nanny in self._agents():
                self._client.run(end_spool, self._run_id, remove, workers=[address], nanny=nanny, on_error="ignore")
