"""What can be measured of a task on its worker."""

from __future__ import annotations

from typing import Any

from runmem.memory.peak import PeakMeter, Window, process_meter

__all__ = ["Probe", "PeakProbe"]


class Probe:
    """A measurement around every task. Subclass it and override both methods; a probe that raises is left out."""

    def start(self) -> Any:
        """Begin; what this returns is given to `stop`."""

    def stop(self, started: Any) -> dict[str, Any]:
        """End, also when the task raised; return fields of the task's record by name."""
        return {}


class PeakProbe(Probe):
    """The exact peak of the task, from the kernel's high-water mark (see `runmem.memory.peak`).

    Parameters
    ----------
    malloc_trim : bool
        Whether the C allocator gives free memory back first, so that an earlier task's leftovers do not hide this one's
        increment.
    """

    def __init__(self, malloc_trim: bool = False, meter: PeakMeter | None = None) -> None:
        self._trim = malloc_trim
        self._meter = meter or process_meter()

    def start(self) -> Window:
        """Open a window."""
        return self._meter.start(trim=self._trim)

    def stop(self, started: Window) -> dict[str, Any]:
        """Close the window."""
        reading = self._meter.stop(started)
        return {
            "base_bytes": reading.base_bytes,
            "peak_bytes": reading.peak_bytes,
            "end_bytes": reading.end_bytes,
            "method": reading.method,
            "shared": reading.shared,
            "lifetime_peak_bytes": reading.lifetime_peak_bytes,
            "reason": reading.reason,
        }
