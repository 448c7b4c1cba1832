"""The master's copies of the nodes' spool files."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

from runmem.events import DataLost
from runmem.store.layout import RunDirectory
from runmem.store.output import link_file, place_file, resolve
from runmem.units import MIB

__all__ = ["Replicas", "remove_replicas"]

_BACKLOG_BYTES = 64 * MIB


class Replicas:
    """Copies of the nodes' spool files, written at the offsets at which they were read.

    Writing twice is harmless. Data that cannot be written (a full disk) are kept in memory and tried again.

    Parameters
    ----------
    run : RunDirectory
    trace_folder : Path or None
        Folder in which the `.dat` traces appear too, under their own names; None: in no other.
    backlog_bytes : int, optional
        How much of what cannot be written is kept; the rest is lost.
    """

    def __init__(self, run: RunDirectory, trace_folder: Path | None, backlog_bytes: int = _BACKLOG_BYTES) -> None:
        self._backlog_bytes = backlog_bytes
        self._run = run
        self._trace_folder = trace_folder
        self._backlog: dict[Path, list[tuple[int, bytes]]] = {}
        self._kept = 0
        self._missing: dict[Path, int] = {}  # where what was lost begins
        self.lost: dict[Path, int] = {}
        self.links: dict[Path, Path] = {}
        self._linked: set[Path] = set()
        self._begun: set[Path] = set()

    def write(self, node: str, file: str, offset: int, data: bytes) -> None:
        """Write `data` at `offset` of the replica of `file` of `node`."""
        path = self._run.replica(node, file)
        waiting = self._backlog.pop(path, [])
        self._kept -= sum(len(kept) for _, kept in waiting)
        for start, piece in [*waiting, (offset, data)]:
            if (written := self._put(path, start, piece)) < len(piece):
                self._keep(path, start + written, piece[written:])
        if file.endswith(".dat"):
            self._link(path)

    def _put(self, path: Path, offset: int, data: bytes) -> int:
        """Write `data` at `offset`, as far as possible; return the number of bytes written."""
        written = 0
        try:
            create = os.O_CREAT if offset == 0 or path not in self._begun else 0
            fd = _open(path, os.O_WRONLY | create | os.O_CLOEXEC)
            self._begun.add(path)
        except OSError:
            return 0
        try:
            while written < len(data):
                written += os.pwrite(fd, memoryview(data)[written:], offset + written)
        except OSError:
            pass  # a full disk: tried again with the next lines
        finally:
            os.close(fd)
        return written

    def _keep(self, path: Path, offset: int, data: bytes) -> None:
        if self._kept + len(data) > self._backlog_bytes:
            self.lost[path] = self.lost.get(path, 0) + len(data)
            self._missing[path] = min(offset, self._missing.get(path, offset))
            return
        self._kept += len(data)
        self._backlog.setdefault(path, []).append((offset, data))

    def synced(self, node: str, file: str, end: int) -> int:
        """Return the offset, at most `end`, up to which a replica is complete and on disk; 0: unknown."""
        path = self._run.replica(node, file)
        waiting = [offset for offset, _ in self._backlog.get(path, [])]
        end = min(end, self._missing.get(path, end), *waiting)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return 0
        try:
            os.fsync(fd)
            return end if os.fstat(fd).st_size >= end else 0
        except OSError:
            return 0
        finally:
            os.close(fd)

    def _link(self, path: Path) -> None:
        """Link a trace into the trace folder, in place of that of an earlier run, whose run directory keeps it."""
        if self._trace_folder is None or path in self.links or not path.exists():
            return
        shown = self._trace_folder / path.name
        try:
            self._trace_folder.mkdir(parents=True, exist_ok=True)
            if path.name.startswith("mprofile_"):
                shown = _linked_as_new(path, self._trace_folder)
            else:
                link_file(path, shown)
            self._linked.add(path)
        except OSError:
            pass  # another file system, or no regular file is there: copied at the end
        self.links[path] = shown

    def finish(self) -> list[DataLost]:
        """Write the data kept in memory, cut torn ends, copy traces to their folder; return the losses."""
        for path, waiting in list(self._backlog.items()):
            left = [(offset + done, len(data) - done) for offset, data in waiting
                    if (done := self._put(path, offset, data)) < len(data)]  # fmt: skip
            if left:
                self.lost[path] = self.lost.get(path, 0) + sum(size for _, size in left)
                _cut_torn_end(path, min(end for end, _ in left))
        lost = [
            DataLost(str(path), f"{size} bytes could not be written (disk full?)") for path, size in self.lost.items()
        ]
        for path, shown in list(self.links.items()):
            try:
                if not shown.exists():
                    _copy_trace(path, shown)
                elif not os.path.samefile(path, shown):
                    if path in self._linked:
                        self.links[path] = path  # another run has begun in this folder, and has the name now
                    else:
                        _copy_trace(path, shown)
            except OSError as error:
                lost.append(
                    DataLost(str(shown), f"the trace could not be copied here: {error.strerror}; it is in {path}")
                )
        return lost


def _open(path: Path, flags: int) -> int:
    """Open a file; make its folder, but not that of the run: if somebody removes it, that stays so."""
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        path.parent.mkdir(exist_ok=True)
        return os.open(path, flags, 0o644)


def remove_replicas(run: RunDirectory) -> None:
    """Remove the copies of the contents of ``tasks.jsonl`` and ``profiles/`` of a run that has ended without a loss.

    Logs of tasks and causes of deaths remain.
    """
    for kind in ("tasks", "profiles", "captures"):
        for path in run.replicas.glob(f"*/{kind}-*.jsonl"):
            path.unlink(missing_ok=True)
    for folder in [*run.replicas.glob("*"), run.replicas]:
        with suppress(OSError):  # it is not empty
            folder.rmdir()


def _linked_as_new(trace: Path, folder: Path) -> Path:
    """Link the trace of a master to a free name: of the second in which it began, or of the next free one."""
    began = time.mktime(time.strptime(trace.stem, "mprofile_%Y%m%d%H%M%S"))
    for later in count():
        shown = folder / time.strftime("mprofile_%Y%m%d%H%M%S.dat", time.localtime(began + later))
        with suppress(FileExistsError):
            os.link(trace, shown)
            return shown
    raise AssertionError


def _copy_trace(path: Path, shown: Path) -> None:
    if resolve(shown).is_pipe:
        raise OSError(errno.EINVAL, "it is a pipe, and may have no reader", str(shown))  # the run would not end
    place_file(path, shown, share=False)


def _cut_torn_end(path: Path, written: int) -> None:
    """Cut a file after the last whole line in its first `written` bytes."""
    try:
        data = path.read_bytes()[: max(written, 0)] if path.exists() else b""
        os.truncate(path, data.rfind(b"\n") + 1)
    except OSError:
        pass
