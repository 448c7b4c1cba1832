"""Reads the new lines of a node's spool. Runs on the node: in a nanny if there is one, which outlives its worker."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from runmem.collection.pace import WantedInterval
from runmem.formats.totals import KEPT_BEGINNING, first_kept
from runmem.memory.limits import MemoryLimit, memory_limit, node_memory_bytes
from runmem.node.interval import write_interval
from runmem.node.launch import ensure_sampler, sampler_pid
from runmem.node.members import read_members, start_ticks
from runmem.store.append import read_lines
from runmem.store.freeing import free_beginning
from runmem.store.layout import Spool
from runmem.store.node_name import node_name

__all__ = [
    "CHUNK_BYTES",
    "SpoolNews",
    "SpoolQuestion",
    "end_spool",
    "read_last",
    "read_spool",
    "read_spool_on",
    "stop_sampler",
]

log = logging.getLogger(__name__)

_STILL_USED_S = 3600.0
CHUNK_BYTES = 4 * 1024**2
_LEAST_BYTES = 64 * 1024


@dataclass(frozen=True)
class SpoolNews:
    """New lines of a node.

    Attributes
    ----------
    node : str
        Host name.
    files : dict
        File name to (offset, bytes); the bytes end with a whole line.
    dead : list of int
        Process ids of members that died without leaving.
    more : bool
        Whether there is more to read at once.
    freed : dict
        File name to the offset before which it was to be freed, also where that is not possible.
    memory_bytes, limit_bytes, limit_source
        Physical memory of the node; the limit for processes of the run, and its source.
    is_lost : bool
        Whether the node cannot be asked any more, and its last lines have not come.
    gone : str
        A file or folder that was read before and was removed; empty if there is none.
    """

    node: str
    files: dict[str, tuple[int, bytes]]
    dead: list[int] = field(default_factory=list)
    more: bool = False
    memory_bytes: int | None = None
    limit_bytes: int | None = None
    limit_source: str | None = None
    gone: str = ""
    freed: dict[str, int] = field(default_factory=dict)
    is_lost: bool = False


class SpoolQuestion(NamedTuple):
    """What the master asks a node: the whole lines of the spool of a run beyond `offsets`.

    Attributes
    ----------
    run_id : str
    offsets : dict
        File name to the number of bytes that the master has.
    interval_s : float or None
        Sampling interval, to restart a sampler that died; None: memory is not measured.
    free : dict or None
        File name to the offset before which it is to be freed: the master has that part on its disk.
    wanted : WantedInterval or None
        A longer interval of the sampler, and its reason.
    most_bytes : int
        About how much to return. The files with new lines share it, but each may have 64 KiB.
    """

    run_id: str
    offsets: dict[str, int]
    interval_s: float | None = None
    free: dict[str, int] | None = None
    wanted: WantedInterval | None = None
    most_bytes: int = CHUNK_BYTES


def read_spool(question: SpoolQuestion) -> SpoolNews:
    """Return the lines that are asked for, of the spool on this node."""
    run_id, offsets, interval_s, free, wanted, most_bytes = question
    spool = Spool.of_run(run_id)
    files: dict[str, tuple[int, bytes]] = {}
    more = False
    found = _sizes(spool)
    new = [file for file, size in found.items() if size > offsets.get(file, 0)]
    portion = max(_LEAST_BYTES, most_bytes // max(1, len(new)))
    for file in new:
        offset, path = offsets.get(file, 0), str(spool.file(file))
        data = b"" if _is_freed(path, offset) else read_lines(path, offset, portion)
        if data:
            files[file] = offset, data
            more = more or len(data) > portion // 2
    dead = []
    if interval_s is not None and spool.members.is_dir():
        members = read_members(str(spool.root))
        dead = [
            member.pid for member in members if member.start is not None and start_ticks(member.pid) != member.start
        ]
        if len(dead) < len(members) and not spool.stop.exists():
            ensure_sampler(spool.root, interval_s)
            if wanted is not None:
                with suppress(OSError):  # a full disk: asked again the next time
                    write_interval(str(spool.root), *wanted)
    _free(spool, free or {})
    if spool.root.is_dir() and time.time() - spool.root.stat().st_mtime > _STILL_USED_S:
        os.utime(spool.root)  # else another run would remove it as an abandoned one
    memory_bytes, limit = _memory_for(run_id)
    gone = _gone(spool, offsets, found)
    return SpoolNews(node_name(), files, dead, more, memory_bytes, limit.limit_bytes, limit.source, gone, free or {})


def _sizes(spool: Spool) -> dict[str, int]:
    """Return the files of a spool that the master copies, by name, with their sizes."""
    if not spool.root.is_dir():
        return {}
    with os.scandir(spool.root) as entries:
        found = [entry for entry in entries if entry.name.endswith((".dat", ".jsonl"))]
    return {entry.name: entry.stat().st_size for entry in sorted(found, key=lambda entry: entry.name)}


def _gone(spool: Spool, offsets: dict[str, int], found: Collection[str]) -> str:
    """Return a file or folder of a spool that was read before and was removed; empty if there is none."""
    if not spool.root.is_dir():
        return str(spool.root) if offsets else ""
    for file in offsets:
        if offsets[file] and file not in found:
            return str(spool.file(file))
    return ""


@lru_cache(maxsize=8)
def _memory_for(run_id: str) -> tuple[int, MemoryLimit]:
    """Return this node's memory and memory limit, as they are at the beginning of a run."""
    return node_memory_bytes(), memory_limit()


def _note_offsets(spool: Spool, offsets: dict[str, int]) -> None:
    """Write the master's offsets to a file, for the process that leaves last."""
    partial = spool.taken.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        partial.write_text(json.dumps(offsets))
        partial.replace(spool.taken)


def _is_freed(path: str, offset: int) -> bool:
    """Return True if the lines at `offset` were freed meanwhile: the request was long on its way."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return first_kept(descriptor, offset) > offset
    finally:
        os.close(descriptor)


def _free(spool: Spool, ends: dict[str, int]) -> None:
    """Free the beginnings of files that the master has."""
    for file, end in ends.items():
        try:
            free_beginning(spool.file(file), end, KEPT_BEGINNING if file.endswith(".dat") else 0)
        except OSError as error:
            log.warning("%s grows as long as the run: it cannot be freed (%s)", spool.file(file), error)


def read_spool_on(question: SpoolQuestion) -> SpoolNews | str:
    """Return the lines that are asked for, or an error as text, for the run to report."""
    try:
        _note_offsets(Spool.of_run(question.run_id), question.offsets)
        return read_spool(question)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def read_last(run_id: str) -> SpoolNews | None:
    """Return the unread lines of the spool here when the last process of the run on this node leaves.

    After that the master could ask no process here. None: others are left, or the run has ended.
    """
    spool = Spool.of_run(run_id)
    if spool.stop.exists() or any(start_ticks(member.pid) == member.start for member in read_members(str(spool.root))):
        return None
    offsets = {}
    with suppress(OSError, ValueError):  # never read, or this moment: then all of it
        offsets = json.loads(spool.taken.read_bytes())
    most_bytes = CHUNK_BYTES * max(1, len(_sizes(spool)))  # there is no second time, as there is for what is asked
    return read_spool(SpoolQuestion(run_id, offsets, most_bytes=most_bytes))


def stop_sampler(run_id: str) -> None:
    """Ask the sampler of a run on this node to end, after one more sample."""
    spool = Spool.of_run(run_id)
    if spool.root.is_dir() and not spool.stop.exists():
        spool.stop.touch()
        if (sampler := sampler_pid(spool.root)) is not None:
            with suppress(OSError):  # it has ended
                os.kill(sampler, signal.SIGTERM)  # else it would see that at its next sample only


def end_spool(run_id: str, remove: bool, wait_s: float = 2.0) -> None:
    """End the sampler of a run on this node, or (`remove`) delete the spool."""
    spool = Spool.of_run(run_id)
    if remove:
        shutil.rmtree(spool.root, ignore_errors=True)
    elif spool.root.is_dir():
        stop_sampler(run_id)
        deadline = time.monotonic() + wait_s
        while sampler_pid(spool.root) is not None and time.monotonic() < deadline:
            time.sleep(0.001)
