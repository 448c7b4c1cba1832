"""What can be measured of a task on its worker."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from runmem.memory.held import held
from runmem.memory.peak import PeakMeter, PeakReading, Window, process_meter
from runmem.memory.window import TOLERANCE_BYTES

__all__ = ["Probe", "PeakProbe", "Probes", "peak_fields"]

log = logging.getLogger(__name__)


class Probe:
    """A measurement around every task. Subclass it and override both methods; a probe that raises is left out."""

    def start(self) -> Any:
        """Begin; what this returns is given to `stop`."""

    def stop(self, started: Any) -> dict[str, Any]:
        """End, also when the task raised; return fields of the task's record by name."""
        return {}

    def next(self, started: Any) -> tuple[dict[str, Any], Any]:
        """End for one task and begin for the one that follows at once; return what `stop` and `start` would.

        Override it where one reading can serve for both, because short calls come one after the other.
        """
        return self.stop(started), self.start()


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

    def stop(self, started: Window) -> dict[str, Any]:
        """Close the window."""
        return peak_fields(self._meter.stop(started))

    def next(self, started: Window) -> tuple[dict[str, Any], Window]:
        """Close the window and open the next, with one reading; two where memory is given back before a task."""
        if self._trim:
            return self.stop(started), self.start()
        reading, window = self._meter.next(started)
        fields = peak_fields(reading)
        if (reading.increment_bytes or 0) > TOLERANCE_BYTES:
            self._meter.stop(window)
            window = self.start()
        return fields, window


class Probes:
    """All probes of a worker as one; one that raises is logged and left out, and the task goes on."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        self._probes = list(probes)

    def start(self) -> list[Any]:
        """Begin; return the state of each, None for one that raised."""
        return [self._start(probe) for probe in self._probes]

    def stop(self, started: list[Any]) -> dict[str, Any]:
        """End; return the fields of all."""
        fields: dict[str, Any] = {}
        for probe, state in zip(self._probes, started, strict=True):
            if state is not None:
                try:
                    fields |= probe.stop(state)
                except Exception as error:
                    fields |= _failed(probe, "stop", error)
        return fields

    def next(self, started: list[Any]) -> tuple[dict[str, Any], list[Any]]:
        """End for one task and begin for the next."""
        all_fields: dict[str, Any] = {}
        states = []
        for probe, state in zip(self._probes, started, strict=True):
            fields, state = self._next(probe, state)
            all_fields |= fields
            states.append(state)
        return all_fields, states

    def _next(self, probe: Probe, state: Any) -> tuple[dict[str, Any], Any]:
        if state is None:
            return {}, self._start(probe)
        try:
            return probe.next(state)
        except Exception as error:
            return _failed(probe, "next", error), self._start(probe)

    @staticmethod
    def _start(probe: Probe) -> Any:
        try:
            return probe.start()
        except Exception as error:
            _failed(probe, "start", error)
            return None


def _failed(probe: Probe, method: str, error: Exception) -> dict[str, Any]:
    log.warning("%s.%s failed", type(probe).__name__, method, exc_info=error)
    return {"reason": f"{type(probe).__name__} failed: {error}"}


def peak_fields(reading: PeakReading) -> dict[str, Any]:
    """Return the fields of a task's record that a window of the peak of this thread gives."""
    others = reading.held_bytes and max(0, reading.held_bytes - held().input_bytes())
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
