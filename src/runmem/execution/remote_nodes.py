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
    """The other hosts that have workers of a run.

    One process a host is asked: a nanny where there is one, because it outlives its worker, else a worker.
    """

    def __init__(self, client: distributed.Client, run_id: str, interval_s: float | None) -> None:
        self._client = client
        self._run_id = run_id
        self._interval_s = interval_s
        self._workers = 0
        self._names: dict[str, str] = {}  # host address to host name

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
        """Yield (host, worker address, whether its nanny is asked) for each host that is not this one."""
        hosts: dict[str, tuple[str, bool]] = {}
        for address, worker in self._scheduler_workers().items():
            host = worker.get("host", address)
            if self._names.get(host) != node_name() and not host.startswith("127."):
                hosts.setdefault(host, (address, bool(worker.get("nanny"))))
        for host, (address, nanny) in hosts.items():
            yield host, address, nanny

    def read(self, offsets: dict[str, dict[str, int]]) -> Iterator[tuple[str, SpoolNews | str]]:
        """Yield what is new on each host, given the offsets by node; an error comes as text."""
        try:
            agents = list(self._agents())
        except Exception as error:
            yield "the cluster", f"{type(error).__name__}: {error}"
            return
        for host, address, nanny in agents:
            known = offsets.get(self._names.get(host, ""), {})
            try:
                answer = self._client.run(
                    read_spool_on, self._run_id, known, self._interval_s, workers=[address], nanny=nanny
                )
            except Exception as error:
                yield host, f"{type(error).__name__}: {error}"
                continue
            news: Any = next(iter(answer.values()), "no answer")
            if isinstance(news, SpoolNews):
                self._names[host] = news.node
            yield host, news

    def end(self, remove: bool) -> None:
        """Tell the samplers of the other hosts to end, or remove their spools."""
        with suppress(Exception):
            for _, address, nanny in self._agents():
                self._client.run(end_spool, self._run_id, remove, workers=[address], nanny=nanny, on_error="ignore")
