"""Refuses, before any work is done, settings with which a run cannot take place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from runmem.clusters.child_imports import is_embedded_worker, is_importing_main
from runmem.errors import SettingError
from runmem.extensions import check_extensions
from runmem.graph.current import current_program
from runmem.memory.memray_capture import INSTALL_MEMRAY, memray_is_installed
from runmem.settings import Settings, option_name
from runmem.store.output import check_folder
from runmem.worker.probe import Probe

__all__ = [
    "check_memray", "check_process", "check_recording", "check_sequential", "check_writable", "known_needs",
    "pack_probes",
]  # fmt: skip


def check_process() -> None:
    """Raise SettingError in a process that cannot start a run."""
    if is_embedded_worker():
        raise SettingError("this process is a worker of a run, and a task cannot start another: call the tasks.")
    if is_importing_main():
        raise SettingError(
            "this process was started by `multiprocessing` and imports the program once more: put the start of a run "
            "(runmem.session) below `if __name__ == '__main__':`."
        )
    if current_program() is not None:
        raise SettingError("a run is under way in this process already: end it before you start another.")


def check_writable(folder: Path, settings: Settings) -> None:
    """Raise SettingError if the traces cannot be written."""
    if not settings.python_memory_profile:
        return
    try:
        check_folder(folder)
    except OSError as error:
        raise SettingError(
            f"the traces cannot be written to {folder}: {error.strerror or error}. Start the program in a folder that "
            "you may write to, or set COMPSS_WORKER_PROFILE_PATH to one."
        ) from error


def check_sequential(settings: Settings) -> None:
    """Raise SettingError for a setting that asks for workers in a sequential run."""
    names = ("workers", "worker_memory_bytes", "scheduler", "scheduler_file", "hosts", "cluster", "env_script")
    given = [f for f in fields(Settings) if f.name in names and getattr(settings, f.name) is not None]
    given += [f for f in fields(Settings) if f.name == "memory_aware" and settings.memory_aware]
    if settings.sequential and given:
        raise SettingError(
            f"--sequential runs the tasks in the program's own process, and --{option_name(given[0])} asks for "
            "workers: leave one of them out."
        )


def check_memray(settings: Settings) -> None:
    """Raise SettingError if allocations are to be recorded, and memray, which draws them here, is not installed."""
    if settings.memray and not memray_is_installed():
        raise SettingError(f"--memray={','.join(settings.memray)}: memray is not installed here: {INSTALL_MEMRAY}.")


def check_recording(settings: Settings, several_threads: bool) -> None:
    """Raise SettingError if allocations are to be recorded on workers that run several tasks at a time."""
    if settings.memray and several_threads:
        raise SettingError(
            f"--memray={','.join(settings.memray)}: a worker of this cluster has several threads, whose tasks memray "
            "would record together: start workers with one thread each (dask worker --nthreads 1)."
        )


def known_needs(settings: Settings) -> dict[str, int]:
    """Return what the calls of each task needed in the run of --memory_from, in bytes; SettingError if it is none."""
    if settings.memory_from is None:
        return {}
    from runmem.execution.expectations import needs_in_run  # imports much

    return needs_in_run(settings.memory_from)


def pack_probes(probes: Sequence[object], settings: Settings, import_folder: str | None) -> bytes:
    """Return the pickle of probes for the workers; empty for none."""
    if not probes:
        return b""
    if not settings.python_memory_profile:
        raise SettingError("--probes: what they measure is in records of tasks, which need --python_memory_profile.")
    check_extensions(probes, Probe, "--probes", import_folder)
    import cloudpickle

    try:
        packed: bytes = cloudpickle.dumps(list(probes))
    except Exception as error:
        raise SettingError(f"--probes: they cannot be sent to a worker ({type(error).__name__}: {error}).") from error
    return packed
