"""Loaded by Dask workers that record the memory of their tasks themselves: ``dask worker --preload runmem.preload``.

The records are in ``runmem_runs/dask_<id of the scheduler>`` of the worker's folder, or below the folder in
``RUNMEM_RUN_FOLDER``, which the workers should share. ``--preload-nanny runmem.preload`` adds why workers died.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

from distributed import Nanny

from runmem.memory.limits import memory_limit, node_memory_bytes
from runmem.settings import resolve
from runmem.store.node_name import node_name
from runmem.store.workers_run import WORKERS_RUN, WorkersRun
from runmem.worker.dask_tasks import DaskTasks
from runmem.worker.nanny import RunmemNanny
from runmem.worker.run_on_workers import RunOnWorkers

__all__ = ["dask_setup", "dask_teardown"]

log = logging.getLogger(__name__)


class _Losses:
    """What a worker could not measure or record, for ``run.json``.

    On a full disk it tries again at the next loss and at the end.

    Parameters
    ----------
    run : WorkersRun
    """

    def __init__(self, run: WorkersRun) -> None:
        self._run = run
        self._unsaved: dict[str, str] = {}
        self._lock = threading.Lock()

    def note(self, place: str, reason: str) -> None:
        """Note a loss; from any thread."""
        with self._lock:
            self._unsaved[place] = reason
        self.save()

    def save(self) -> None:
        """Write what has not been written yet."""
        with self._lock:
            try:
                if self._unsaved:
                    self._run.lose(self._unsaved)
                    self._unsaved = {}
            except OSError as error:
                log.warning("%s is not noted in the run directory: %s", "; ".join(self._unsaved), error)


_runs: dict[str, WorkersRun] = {}  # by the address of the worker
_losses: dict[str, _Losses] = {}


async def dask_setup(server: Any) -> None:
    """Begin to record, in a worker or a nanny. One that cannot runs its tasks all the same."""
    try:
        settings = resolve({"python_memory_profile": True})
        scheduler = await server.scheduler.identity()
        run = WorkersRun.of_scheduler(settings.run_folder.absolute(), scheduler["id"])
        run_id = f"{run.directory.root.name}-{node_name()}"
        run.spool.make()
        if isinstance(server, Nanny):
            await server.plugin_add(plugin=RunmemNanny(run_id, str(run.spool.root)))
            return
        limit = memory_limit()
        node = {
            "memory_bytes": node_memory_bytes(), "limit_bytes": limit.limit_bytes, "limit_source": limit.source,
        }  # fmt: skip
        about = {
            "app": "dask", "run_id": run.directory.root.name, "cluster": WORKERS_RUN, "folder": str(Path.cwd()),
            "settings": settings.describe(), "scheduler": scheduler["address"],
        }  # fmt: skip
        run.join(os.getpid(), about, node, time.time())
        _runs[server.address] = run
        on_workers = RunOnWorkers(
            run_id, "dask", node_name(), str(run.spool.root), True, settings.memory_interval_s,
            metric=settings.memory_metric,
        )  # fmt: skip
        losses = _losses[server.address] = _Losses(run)
        await server.plugin_add(plugin=DaskTasks(on_workers, report_loss=losses.note), catch_errors=False)
        log.info("runmem records the memory of the tasks in %s", run.directory.root)
    except Exception as error:
        log.warning("runmem does not record the memory of the tasks: %s: %s", type(error).__name__, error)


def dask_teardown(server: Any) -> None:
    """End to record."""
    address = getattr(server, "address", "")
    run, losses = _runs.pop(address, None), _losses.pop(address, None)
    if losses is not None:
        losses.save()
    if run is not None:
        run.leave(os.getpid(), time.time())
