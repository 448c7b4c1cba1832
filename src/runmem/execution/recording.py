"""Records a run: observers, the collector and its copies of the spools, and ``run.json``."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from runmem.collection.allocation_notes import AllocationNotes
from runmem.collection.collector import Collector
from runmem.collection.logged_records import LoggedRecords
from runmem.collection.observer import Observer, Observers
from runmem.collection.recorder import ProfileWriter, Recorder
from runmem.collection.replicas import Replicas
from runmem.collection.task_graph import GraphWriter
from runmem.events import DataLost
from runmem.settings import Settings
from runmem.store.layout import RunDirectory
from runmem.store.run import write_provenance

__all__ = ["Recording"]

log = logging.getLogger(__name__)

_PACKAGES = ("runmem", "dask", "distributed", "memory-profiler", "psutil", "numpy", "cloudpickle")


class Recording:
    """Observers of a run, and everything that is written in its directory while it goes on.

    Parameters
    ----------
    trace_folder : Path or None
        See `Replicas`.
    node_found : callable
        See `Collector`.

    Attributes
    ----------
    observers : Observers
    recorder : Recorder
    replicas : Replicas
    collector : Collector
    """

    def __init__(
        self,
        run_id: str,
        directory: RunDirectory,
        trace_folder: Path | None,
        settings: Settings,
        observers: Sequence[Observer],
        node_found: Callable[[], object],
    ) -> None:
        self._directory = directory
        self._is_failure_said = False  # that run.json could not be written
        self.recorder = Recorder(directory)
        logged = LoggedRecords()
        shows_reports = settings.log_level == "debug"
        profiles = ProfileWriter(directory, shows_reports, self.recorder.data_lost)
        graph = [GraphWriter(directory.task_graph)] if settings.graph else []
        notes = AllocationNotes(settings.memray)
        self.observers = Observers([self.recorder, profiles, logged, notes, *graph, *observers])
        self.replicas = Replicas(directory, trace_folder)
        self.collector = Collector(
            run_id,
            directory,
            self.replicas,
            self.observers,
            settings.memory_interval_s if settings.python_memory_profile else None,
            node_found,
            settings.spool_size_bytes,
            logged.deliver,
        )

    def report_loss(self, place: str, reason: str) -> None:
        """Report that something was not measured, or not recorded."""
        self.observers.data_lost(DataLost(place, reason))

    def write_run_json(self, values: dict[str, object], calls: int, has_ended: bool) -> bool:
        """Write ``run.json`` with these values and those that the recording knows; return True if it is written.

        Parameters
        ----------
        calls : int
            Number of calls of the program.
        has_ended : bool
            Whether the run has ended.
        """
        lost = list(self.recorder.lost)
        recorded = self.collector.calls_recorded
        known = {
            "calls": calls,
            "calls_recorded": recorded,
            "nested_calls_recorded": self.collector.nested_calls_recorded,
            "versions": {"python": platform.python_version(), "system": platform.platform(), **_versions()},
            "nodes": self.collector.nodes,
            "trace_files": [str(path) for path in self.replicas.links.values()],
            "intervals": self.collector.pace.notes(),
            "lost": lost,
            "records_complete": has_ended and not lost and recorded == calls,
        }
        try:
            write_provenance(self._directory, values | known)
            return True
        except OSError as error:
            if not self._is_failure_said:  # it is written several times in a run
                log.error(
                    "runmem: %s could not be written: %s. The program goes on without it.",
                    self._directory.run_json, error.strerror or error,
                )  # fmt: skip
            self._is_failure_said = True
            return False


@cache  # written three times in a run
def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
