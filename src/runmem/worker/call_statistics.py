"""Counts how long the calls of a process last and how much memory they need, and reports it to the master."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runmem.memory.stored_data import stored_data

__all__ = ["CallStatistics", "need_of"]

_REPORT_EVERY_S = 5.0
_MOST_CALLS = 4096  # between two reports, unless that takes longer
_SIZED_CALLS = (1, 2, 4, 8, 64, 512, 4096)  # since the last report: sizes of results take time
_NOTICEABLE_BYTES = 1024**2


@dataclass(slots=True)
class _Durations:
    """Calls of a task since the last report.

    `reported_s`: monotonic time of that report. `report_at`: number of calls at which to report again.
    """

    reported_s: float = 0.0
    report_at: int = 1
    calls: int = 0
    seconds: float = 0.0
    largest_bytes: int = 0


class CallStatistics:
    """Durations and needs of the calls of a process, by the name of their task; for all its threads.

    Parameters
    ----------
    notify : callable
        Sends a message to the master.
    """

    def __init__(self, notify: Callable[[dict[str, object]], None]) -> None:
        self._notify = notify
        self._lock = threading.Lock()
        self._durations: dict[str, _Durations] = {}
        self._needs: dict[str, tuple[int, int]] = {}  # what was reported last

    def ended(self, name: str, elapsed_s: float, result: object, need: tuple[int, int] | None) -> None:
        """Note a call that finished, with its need, see `need_of`; report now and then."""
        with self._lock:
            if need is not None:
                self._report_need(name, *need)
            its = self._durations.setdefault(name, _Durations())
            its.calls += 1
            its.seconds += elapsed_s
            if result is not None and its.calls in _SIZED_CALLS:
                its.largest_bytes = max(its.largest_bytes, _size(result))
            now_s = time.monotonic()
            # The first call at once, then at twice as many or after some seconds: the scheduler keeps all messages.
            if its.calls >= its.report_at or now_s - its.reported_s > _REPORT_EVERY_S:
                self._durations[name] = _Durations(now_s, min(its.report_at * 2, _MOST_CALLS))
                self._notify(
                    {"name": name, "calls": its.calls, "seconds": its.seconds, "largest_bytes": its.largest_bytes}
                )

    def _report_need(self, name: str, needed_bytes: int, kept_bytes: int) -> None:
        """Report what a call has needed if calls of its name had needed noticeably less so far."""
        known, kept = self._needs.get(name, (-_NOTICEABLE_BYTES, -_NOTICEABLE_BYTES))
        step = max(_NOTICEABLE_BYTES, known // 32)
        if needed_bytes >= known + step or kept_bytes >= kept + step:
            needed_bytes, kept_bytes = self._needs[name] = max(known, needed_bytes), max(kept, kept_bytes)
            self._notify({"name": name, "needed_bytes": needed_bytes, "kept_bytes": kept_bytes})


def need_of(values: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the memory that a call has needed and what of it is in use after it, in bytes; None if unknown.

    Its inputs count in as far as other workers may have sent them.

    Parameters
    ----------
    values : mapping
        Measured fields of its record.
    """
    base, peak, end = values.get("base_bytes"), values.get("peak_bytes"), values.get("end_bytes")
    needed = values.get("increment_bytes")
    if needed is None:
        if base is None or peak is None:
            return None
        needed = peak - base
    kept = 0 if end is None or base is None else max(0, end - base)
    return max(0, needed) + stored_data().moved_bytes(), kept


def _size(result: object) -> int:
    from dask.sizeof import sizeof  # here: a process without Dask reports no sizes

    try:
        return int(sizeof(result))
    except Exception:
        return 0
