"""Measurements of a task on its worker."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from runmem.memory.peak import PeakMeter, PeakReading, Window, process_meter
from runmem.memory.stored_data import stored_data
from runmem.memory.window import TOLERANCE_BYTES

__all__ = ["Probe", "Parts", "PeakProbe", "Probes", "peak_fields"]

log = logging.getLogger(__name__)


class Probe:
    """A measurement around every task, in the worker that runs it. Subclass it and override `start` and `stop`.

    A probe of your own is made on each worker, without arguments unless you give an object. Its methods run in the
    thread of the task, and cost each task what they take.
    """

    def start(self) -> Any:
        """Begin; what this returns is given to `stop`."""

    def stop(self, started: Any) -> dict[str, Any]:
        """End, also when the task raised; return what was measured by name, as numbers, texts, True, False or None.

        The values of a probe of your own are in the task's record under ``extra``. End a name with its unit, such as
        ``gpu_peak_bytes``.
        """
        return {}

    def next(self, started: Any) -> tuple[dict[str, Any], Any]:
        """End for one task and begin for the one that follows at once; return what `stop` and `start` would.

        Override it where one reading can serve for both, because short calls come one after the other.
        """
        return self.stop(started), self.start()

    def pause(self, started: Any) -> Any:
        """Leave out the time from now on, while the task waits for tasks that it has called; return what stands for it.

        Default: that time is measured too.
        """
        return started

    def go_on(self, paused: Any) -> Any:
        """Measure again, after `pause` has returned this; return what is given to `stop`."""
        return paused


class Parts(NamedTuple):
    """A window that was interrupted.

    Attributes
    ----------
    before : PeakReading
        Of all windows so far.
    kept_bytes : int
        What the task has kept of its own at the end of the last one.
    window : Window or None
        The one that is open.
    """

    before: PeakReading
    kept_bytes: int
    window: Window | None = None


class PeakProbe(Probe):
    """The exact peak of the task, from the kernel's high-water mark (see `runmem.memory.peak`).

    Parameters
    ----------
    malloc_trim : bool
        Whether the C allocator gives free memory back first in any case; else only where more than a little may be
        left of earlier tasks, which would hide a part of this one's increment.
    """

    def __init__(self, malloc_trim: bool = False, meter: PeakMeter | None = None) -> None:
        self._trim = malloc_trim
        self._meter = meter or process_meter()

    def start(self) -> Window:
        """Open a window."""
        return self._meter.start(trim=self._trim, tidy=True)

    def stop(self, started: Window | Parts) -> dict[str, Any]:
        """Close the window."""
        return peak_fields(self._stopped(started)[0])

    def _stopped(self, started: Window | Parts) -> tuple[PeakReading, int]:
        """Close the window; return the reading of all windows, and what the task has kept of its own."""
        if isinstance(started, Window):
            reading = self._meter.stop(started)
            return reading, started.kept_bytes(reading.end_bytes)
        if started.window is None:
            return started.before, started.kept_bytes
        reading = self._meter.stop(started.window)
        kept_bytes = started.kept_bytes + started.window.kept_bytes(reading.end_bytes)
        return started.before.followed_by(reading, started.kept_bytes), kept_bytes

    def pause(self, started: Window | Parts) -> Parts:
        """Close the window: other tasks may run in the process."""
        return Parts(*self._stopped(started))

    def go_on(self, paused: Parts) -> Parts:
        """Open another window."""
        return paused._replace(window=self._meter.start())

    def next(self, started: Window | Parts) -> tuple[dict[str, Any], Window]:
        """Close the window and open the next, with one reading; two where memory is given back before a task."""
        if self._trim or not isinstance(started, Window):
            return self.stop(started), self.start()
        reading, window = self._meter.next(started)
        fields = peak_fields(reading)
        if (reading.increment_bytes or 0) > TOLERANCE_BYTES:
            self._meter.stop(window)
            window = self.start()
        return fields, window


class _Failed(NamedTuple):
    """The state of a probe that could not begin."""

    reason: str


class Probes:
    """All probes of a worker as one; one that raises is logged and left out, and the task goes on.

    Parameters
    ----------
    own : Probe
        Its values are fields of the record. It begins last and ends first: what the others take is not the task's.
    others : sequence of Probe
        Those of the user; their values are in the field ``extra``.
    second : Probe, optional
        Its values too are fields of the record.
    """

    def __init__(self, own: Probe, others: Sequence[Probe] = (), second: Probe | None = None) -> None:
        self._own = own
        self._second = second or Probe()
        self._others = list(others)

    def start(self) -> list[Any]:
        """Begin; return the state of each."""
        others = [_start(probe) for probe in self._others]
        second = _start(self._second)
        return [_start(self._own), second, *others]

    def stop(self, started: list[Any]) -> dict[str, Any]:
        """End; return the fields of the record."""
        own, second, *others = started
        fields, reason = _stop(self._own, own)
        if reason is not None:
            fields["reason"] = reason
        fields |= _stop(self._second, second)[0]
        if others:
            extra: dict[str, Any] = {}
            fields["extra"] = extra
            for probe, state in zip(self._others, others, strict=True):
                values, reason = _stop(probe, state)
                extra |= _plain(values) if reason is None else {type(probe).__name__: reason}
        return fields

    def pause(self, started: list[Any]) -> None:
        """Leave out the time from now on, until `go_on`."""
        self._change(started, "pause")

    def go_on(self, started: list[Any]) -> None:
        """Measure again."""
        self._change(started, "go_on")

    def _change(self, started: list[Any], method: str) -> None:
        for place, probe in enumerate([self._own, self._second, *self._others]):
            if not isinstance(started[place], _Failed):
                try:
                    started[place] = getattr(probe, method)(started[place])
                except Exception as error:
                    started[place] = _Failed(_failed(probe, method, error))

    def next(self, started: list[Any]) -> tuple[dict[str, Any], list[Any]]:
        """End for one task and begin for the next."""
        if self._others or any(isinstance(state, _Failed) for state in started):
            return self.stop(started), self.start()
        try:
            more, second = self._second.next(started[1])
            fields, own = self._own.next(started[0])
        except Exception as error:
            return {"reason": _failed(self._own, "next", error)}, self.start()
        return fields | more, [own, second]


def _start(probe: Probe) -> Any:
    try:
        return probe.start()
    except Exception as error:
        return _Failed(_failed(probe, "start", error))


def _stop(probe: Probe, state: Any) -> tuple[dict[str, Any], str | None]:
    """Return the values of a probe, or the reason why there are none."""
    if isinstance(state, _Failed):
        return {}, state.reason
    try:
        return dict(probe.stop(state)), None
    except Exception as error:
        return {}, _failed(probe, "stop", error)


def _failed(probe: Probe, method: str, error: Exception) -> str:
    log.warning("%s.%s failed", type(probe).__name__, method, exc_info=error)
    return f"{type(probe).__name__} failed: {error}"


def _plain(values: dict[Any, Any]) -> dict[str, Any]:
    """Return values as a record holds them; what is no number, text, True, False or None, as a text that says so."""
    return {
        str(name): value if _is_plain(value) else f"not kept: {type(value).__name__}" for name, value in values.items()
    }


def _is_plain(value: Any) -> bool:
    return value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


def peak_fields(reading: PeakReading) -> dict[str, Any]:
    """Return the fields of a task's record that a window of the peak of this thread gives."""
    others = reading.held_bytes and max(0, reading.held_bytes - stored_data().input_bytes())
    return {
        "base_bytes": reading.base_bytes,
        "peak_bytes": reading.peak_bytes,
        "end_bytes": reading.end_bytes,
        "method": reading.method,
        "shared": reading.shared,
        "lifetime_peak_bytes": reading.lifetime_peak_bytes,
        "reason": reading.reason,
        "increment_bytes": reading.increment_bytes,
        "increment_unclear": reading.increment_unclear,
        "held_bytes": others,
    }
