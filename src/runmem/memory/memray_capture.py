"""The allocations of one call, native ones too, recorded by memray (extra ``memray``).

memray makes one recording at a time in a process, of all its threads. When the call ends, it writes a file of sums, one
for each place of the code that allocates: small however long the call is, but a process that is killed leaves none.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from runmem.memory.largest_allocations import Allocations, Place, allocations_of
from runmem.units import MIB, format_bytes

__all__ = [
    "CALLS_RECORDED", "INSTALL_MEMRAY", "CaptureFiles", "MemrayCapture", "is_recording", "memray_is_installed",
    "memray_takes_part",
]  # fmt: skip

CALLS_RECORDED = 5
"""So many calls of a function are recorded in a process, or on a node of a run: each recording takes time and space."""

INSTALL_MEMRAY = "pip install 'runmem[memray]'"

_MOST_BYTES = 32 * MIB  # of a file; it travels to the master
_recording = threading.Lock()


def memray_is_installed() -> bool:
    """Return True if memray can be imported."""
    try:
        return importlib.util.find_spec("memray") is not None
    except (ImportError, ValueError):
        return False


def is_recording() -> bool:
    """Return True while memray records a call of this process for us."""
    return _recording.locked()


def memray_takes_part(peak_reason: str | None) -> str:
    """Return the reason of a reading, with the remark that memray's memory is in it."""
    remark = "memray recorded allocations meanwhile, and its own memory is included"
    return remark if peak_reason is None else f"{peak_reason}; {remark}"


class CaptureFiles(NamedTuple):
    """Where captures are written, and under which names.

    Attributes
    ----------
    folder : Path
    label : str
        Distinguishes those who write to the folder, or to one to which the files are copied; it may be empty.
    of_run : bool
        Whether the files reach the run directory, which then has flame graphs at the end of the run.
    """

    folder: Path
    label: str
    of_run: bool = True

    @classmethod
    def of_process(cls) -> CaptureFiles:
        """Return those of a process that takes part in no run: in its folder."""
        return cls(Path.cwd(), str(os.getpid()), False)

    def take(self, name: str) -> Path | None:
        """Make and return the file for a call of `name`; None: there are as many calls as are recorded.

        Raises OSError if it cannot be made.
        """
        safe = re.sub(r"[^\w.+-]", "_", name)[:100]
        for number in range(1, CALLS_RECORDED + 1):
            path = self.folder / f"{'-'.join(['memray', safe, *filter(None, [self.label])])}-{number}.bin"
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
                return path
        return None


class MemrayCapture:
    """The recording of one call: `tracker` records between its ``__enter__`` and ``__exit__``, see `RecordedCall`.

    Parameters
    ----------
    name : str
        The function.
    place : Place
        Its lines.
    files : CaptureFiles

    Attributes
    ----------
    tracker : memray.Tracker or None
        None: the call is not recorded.
    path : Path or None
        The file of memray; None if there is none.
    allocations : Allocations or None
        The largest ones, after `read`.
    not_recorded : str or None
        Why something is missing.
    is_enough : bool
        Whether that is because enough calls were recorded.
    """

    def __init__(self, name: str, place: Place, files: CaptureFiles) -> None:
        self._place = place
        self.tracker: Any = None  # memray's has no types
        self.path: Path | None = None
        self.allocations: Allocations | None = None
        self.not_recorded: str | None = None
        self.is_enough = False
        if (reason := _refusal()) is not None:
            self.not_recorded = reason
        elif not _recording.acquire(blocking=False):
            self.not_recorded = "memray was recording another call in the process, and records one at a time"
        else:
            try:
                self._prepare(name, files)
            except Exception as error:
                self.fail("memray could not begin", error)
            finally:
                if self.tracker is None:
                    _recording.release()

    def _prepare(self, name: str, files: CaptureFiles) -> None:
        import memray

        self.path = files.take(name)
        if self.path is None:
            where = "on the node" if files.of_run else "in the process"
            self.not_recorded = f"only the first {CALLS_RECORDED} calls {where} are recorded"
            self.is_enough = True
            return
        self.tracker = memray.Tracker(
            destination=memray.FileDestination(self.path, overwrite=True),
            native_traces=True,
            file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS,
        )

    def fail(self, what: str, error: Exception) -> None:
        """Note that something failed, and keep no file."""
        self.not_recorded = f"{what}: {error}"
        self._drop()

    def read(self) -> None:
        """Read the largest allocations, once the tracker has written its file; never raises."""
        if self.tracker is None:
            return
        self.tracker = None
        _recording.release()
        if self.path is None:
            return
        try:
            self.allocations = allocations_of(self.path, self._place)
            size = self.path.stat().st_size
        except Exception as error:
            self.fail("the file of memray cannot be read (a full disk?)", error)
            return
        if size > _MOST_BYTES:
            self._drop()
            self.not_recorded = (
                f"the file of memray has {format_bytes(size)}, and at most {format_bytes(_MOST_BYTES)} are kept"
            )

    def _drop(self) -> None:
        path, self.path = self.path, None
        if path is not None:
            with suppress(OSError):
                path.unlink()


def _refusal() -> str | None:
    """Return why a call cannot be recorded in this process; None if it can, as far as is known."""
    if not memray_is_installed():
        return f"memray is not installed here: {INSTALL_MEMRAY}"
    if (threads := _threads_of_worker()) > 1:
        return (
            f"the worker has {threads} threads, whose tasks would be recorded together: start workers with one thread "
            "each (LocalCluster(threads_per_worker=1), dask worker --nthreads 1)"
        )
    return None


def _threads_of_worker() -> int:
    """Return the number of tasks that the Dask worker in this process runs at a time; 1 without one."""
    distributed: Any = sys.modules.get("distributed")  # a process without Dask does not load it for this
    if distributed is None:
        return 1
    try:
        return int(distributed.get_worker().state.nthreads)
    except (ValueError, AttributeError):  # no worker is here
        return 1
