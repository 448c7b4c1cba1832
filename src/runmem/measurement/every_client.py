"""Measures every cluster to which a program connects: Dask loads this module into each of the program's clients.

That is by its setting ``distributed.client.preload``, so that the program needs no change. In a worker process, to
which Dask passes the settings of the program, nothing happens.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import dask
import distributed

from runmem.measurement.measured_cluster import address_of
from runmem.measurement.measurement import Measurement

__all__ = ["PRELOAD", "EveryClient", "dask_setup", "dask_teardown", "of_every_client"]

PRELOAD = "distributed.client.preload"


class EveryClient:
    """The clients of a program, and a measurement for each cluster that they connect to.

    Parameters
    ----------
    make : callable
        Returns a measurement for a client, which is begun here.
    report : callable
        Takes a message about a cluster that cannot be measured.

    Attributes
    ----------
    measurements : list of Measurement
        All that have begun.
    """

    def __init__(self, make: Callable[[distributed.Client], Measurement], report: Callable[[str], object]) -> None:
        self._make = make
        self._report = report
        self._lock = threading.Lock()
        self._clients: dict[str, list[distributed.Client]] = {}  # by address of the scheduler; the first is measured by
        self._of: dict[str, Measurement] = {}
        self.measurements: list[Measurement] = []

    def connected(self, client: distributed.Client) -> None:
        """Begin to measure the cluster of a client, unless it is measured already."""
        with self._lock:
            address = address_of(client)
            self._clients.setdefault(address, []).append(client)
            if address not in self._of:
                self._begin(address, client)

    def _begin(self, address: str, client: distributed.Client) -> None:
        try:
            measurement = self._make(client)
            measurement.begin()
        except Exception as error:  # the program goes on
            self._report(f"the tasks of the cluster at {address} are not measured: {error}")
            return
        self._of[address] = measurement
        self.measurements.append(measurement)

    def closing(self, client: distributed.Client) -> None:
        """End the measurement for which this client was used; go on with another client of the cluster, if any."""
        with self._lock:
            for address, clients in self._clients.items():
                if client not in clients:
                    continue
                was_first = clients[0] is client
                clients.remove(client)
                if was_first and (measurement := self._of.pop(address, None)) is not None:
                    measurement.stop()
                    if clients:
                        self._begin(address, clients[0])

    def stop(self, exit_code: int) -> None:
        """End all measurements."""
        with self._lock:
            for measurement in self._of.values():
                measurement.stop(exit_code)
            self._of.clear()
            self._clients.clear()


_every: EveryClient | None = None


@contextmanager
def of_every_client(every: EveryClient) -> Iterator[None]:
    """Pass each client that is made in the block to `every`."""
    global _every
    before = dask.config.get(PRELOAD, []) or []
    given = [before] if isinstance(before, str) else list(before)
    logger = logging.getLogger("distributed.preloading")
    _every = every
    logger.addFilter(_is_of_another)
    try:
        with dask.config.set({PRELOAD: [*given, __name__]}):
            yield
    finally:
        _every = None
        logger.removeFilter(_is_of_another)


def _is_of_another(record: logging.LogRecord) -> bool:
    """Return False for what Dask logs of this module: the program has not asked for it."""
    return __name__ not in record.getMessage()


async def dask_setup(client: Any) -> None:
    """Note that a client is connected; called by Dask in the client's event loop."""
    if _every is not None:
        await asyncio.to_thread(_every.connected, client)


async def dask_teardown(client: Any) -> None:
    """Note that a client will close."""
    if _every is not None:
        with suppress(RuntimeError):  # the interpreter ends: no thread can be started, and all is measured
            await asyncio.to_thread(_every.closing, client)
