"""Plugins of Dask that also workers and nannies without runmem can load, or with another version of it.

Dask gives a plugin to all workers, also to those that come later, and one that cannot load it does not start. So the
plugins here travel by value: what is sent defines their classes. They load what they carry where the same version of
runmem is installed, and elsewhere report to the client that it is not.
"""

from __future__ import annotations

import pickle
import sys
from contextlib import suppress
from typing import Any

import cloudpickle
from distributed import NannyPlugin, SchedulerPlugin, WorkerPlugin

__all__ = ["nanny_carrier", "runmem_version", "scheduler_plugin", "worker_carrier"]


def runmem_version() -> str | None:
    """Return the version of runmem that this process can import, None if there is none."""
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    try:
        if find_spec("runmem") is None:
            return None
        return version("runmem")
    except PackageNotFoundError:  # a source tree that is not installed
        return "0+unknown"
    except ValueError:  # its import is disabled
        return None


class _Carrier:
    """What both plugins do. Nothing outside this class and the standard library is known where it runs."""

    name: str

    def __init__(self, name: str, topic: str, version: str, packed: bytes) -> None:
        self.name = name
        self._topic, self._version, self._packed = topic, version, packed
        self._carried: Any = None

    def _load(self, server: Any) -> str | None:
        """Load and set up the plugin that is carried; return the reason why that is not possible."""
        import pickle

        there = runmem_version()
        if there is None:
            return "runmem is not installed there"
        if there != self._version:
            return f"runmem {there} is installed there, and the program has {self._version}"
        try:
            self._carried = pickle.loads(self._packed)
            self._carried.setup(server)
        except Exception as error:
            self._carried = None
            return f"{type(error).__name__}: {error}"
        return None

    def _unload(self, server: Any) -> None:
        carried, self._carried = self._carried, None
        if carried is not None:
            carried.teardown(server)


class _WorkerCarrier(_Carrier, WorkerPlugin):  # type: ignore[misc]
    """Carries a plugin to workers, and reports whether it could be set up."""

    def setup(self, worker: Any) -> None:
        import os
        import socket
        import sys

        refusal = self._load(worker)
        if self._carried is not None:
            self.transition = self._carried.transition
        joined = {
            "joined": worker.address, "refusal": refusal, "version": runmem_version(),
            "host": socket.gethostname(), "pid": os.getpid(), "python": sys.executable,
            "threads": worker.state.nthreads,
        }  # fmt: skip
        worker.log_event(self._topic, joined)

    def teardown(self, worker: Any) -> None:
        self.__dict__.pop("transition", None)
        self._unload(worker)


class _NannyCarrier(_Carrier, NannyPlugin):  # type: ignore[misc]
    """Carries a plugin to nannies; where it cannot be set up, neither can that of the worker, which reports it."""

    def setup(self, nanny: Any) -> None:
        self._load(nanny)

    def teardown(self, nanny: Any) -> None:
        self._unload(nanny)


class _ByValue:
    """Pickled, it is the carrier, or plugin, that it holds, with its class."""

    def __init__(self, carrier: Any) -> None:
        self.name: str = carrier.name
        self._carrier = carrier

    def __reduce__(self) -> tuple[Any, ...]:
        module = sys.modules[type(self._carrier).__module__]
        was_registered = module.__name__ in cloudpickle.list_registry_pickle_by_value()
        cloudpickle.register_pickle_by_value(module)
        try:
            return pickle.loads, (cloudpickle.dumps(self._carrier),)
        finally:
            if not was_registered:
                with suppress(ValueError):
                    cloudpickle.unregister_pickle_by_value(module)


class _WorkerPluginByValue(_ByValue, WorkerPlugin):  # type: ignore[misc]
    """A worker's plugin that is pickled by value."""


class _NannyPluginByValue(_ByValue, NannyPlugin):  # type: ignore[misc]
    """A nanny's plugin that is pickled by value."""


class _SchedulerPluginByValue(_ByValue, SchedulerPlugin):  # type: ignore[misc]
    """A scheduler's plugin that is pickled by value."""


def scheduler_plugin(plugin: SchedulerPlugin) -> SchedulerPlugin:
    """Return a plugin that a scheduler without runmem can load; its module uses nothing of runmem."""
    return _SchedulerPluginByValue(plugin)


def worker_carrier(plugin: WorkerPlugin, topic: str, version: str) -> WorkerPlugin:
    """Return a plugin that sets up `plugin` on workers with this version of runmem, and reports on `topic`."""
    return _WorkerPluginByValue(_WorkerCarrier(plugin.name, topic, version, cloudpickle.dumps(plugin)))


def nanny_carrier(plugin: NannyPlugin, topic: str, version: str) -> NannyPlugin:
    """Return a plugin that sets up `plugin` on nannies with this version of runmem."""
    return _NannyPluginByValue(_NannyCarrier(plugin.name, topic, version, cloudpickle.dumps(plugin)))
