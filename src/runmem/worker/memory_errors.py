"""Facts about a task's `MemoryError`, which stays the exception that it is."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from runmem.deaths import Cause, Death, growth_of
from runmem.memory.limits import memory_limit
from runmem.memory.process import address_space_bytes, address_space_limit_of, node_free_bytes, resident_bytes_of
from runmem.serialization.task_error import add_note, notes_of, set_notes
from runmem.store.layout import Spool, safe_name, worker_series
from runmem.store.node_name import node_name
from runmem.units import MIB, format_bytes
from runmem.worker.node_then import NodeThen

__all__ = ["note_facts", "take_note"]

_PREFIX = "memory: "
_TAIL_BYTES = 65536


def note_facts(error: BaseException, spool: Spool | None = None) -> Death | None:
    """Add a note with the facts to a `MemoryError`, unless it has one, and return them.

    Parameters
    ----------
    spool : Spool, optional
        Of the run on this node, which shows the other tasks and the growth.

    Returns
    -------
    Death or None
        None for another exception, or if there is not even memory for this.
    """
    if not issubclass(type(error), MemoryError):
        return None
    try:
        death = _facts(spool)
        if not any(note.startswith(_PREFIX) for note in notes_of(error)):
            add_note(error, _text(death))
    except Exception:
        return None
    return death


def take_note(error: BaseException) -> str | None:
    """Remove the note with the facts from a `MemoryError` and return it; None for another exception."""
    note_facts(error)
    notes = notes_of(error)
    found = [note for note in notes if note.startswith(_PREFIX)] if issubclass(type(error), MemoryError) else []
    if not found:
        return None
    set_notes(error, [note for note in notes if note not in found])
    return found[0]


def _facts(spool: Spool | None) -> Death:
    pid = os.getpid()
    death = replace(_cause(address_space_limit_of(pid), address_space_bytes()), node_free_bytes=node_free_bytes())
    if spool is None:
        return replace(death, missing="its growth and the other tasks on the node are known where memory is measured")
    growth = growth_of(*_last_readings(spool.file(f"{safe_name(node_name())}.dat"), worker_series(pid)))
    missing = None if growth is not None else "its growth is not known: the node's trace has too few readings of it"
    return replace(NodeThen(spool).complete(pid, death), growth_bytes_per_s=growth, missing=missing)


def _last_readings(path: Path, series: str) -> tuple[list[float], list[int]]:
    """Return the times (s) and sizes (bytes) of a series at the end of a trace, without numpy: memory is short."""
    times, sizes = list[float](), list[int]()
    with suppress(OSError, ValueError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        for line in file.read(_TAIL_BYTES).splitlines()[1:-1]:
            if line.startswith(b"CHLD %s " % series.encode()):
                _, _, size, time_s = line.split()
                times.append(float(time_s))
                sizes.append(round(float(size) * MIB))
    return times, sizes


def _cause(limit_bytes: int | None, used_bytes: int | None) -> Death:
    if limit_bytes is None:
        words = (
            "a MemoryError, although the address space of the process is not limited: more was asked for than the node "
            "can give at once, or the code itself raised it"
        )
        return Death(Cause.MEMORY_ERROR, words)
    used = f", of which it used {format_bytes(used_bytes)}" if used_bytes is not None else ""
    words = f"a MemoryError: the address space of the process is limited to {format_bytes(limit_bytes)}{used}"
    return Death(Cause.ADDRESS_SPACE, words, limit_bytes=limit_bytes, limit_owner="RLIMIT_AS (`ulimit -v`)")


def _text(death: Death) -> str:
    size, limit = resident_bytes_of(os.getpid()), memory_limit()
    facts = [f"the process has {format_bytes(size)}; its limit is {format_bytes(limit.limit_bytes)} ({limit.source})"]
    if death.growth_bytes_per_s is not None:
        facts.append(f"growing by {format_bytes(death.growth_bytes_per_s)}/s")
    if death.node_free_bytes is not None:
        facts.append(f"{format_bytes(death.node_free_bytes)} free on the node")
    if death.missing is not None:
        facts.append(death.missing)
    if death.beside is not None:
        facts.append(f"beside it {death.beside}" if death.beside else "no other task on the node")
    return f"{_PREFIX}{death.words}\n" + "\n".join(f"    {fact}" for fact in facts)
