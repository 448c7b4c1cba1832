"""`rusage`: ``ru_maxrss`` that ``wait4`` gives for the command."""

from __future__ import annotations

from typing import ClassVar

from runmem.trials.methods.contract import Column, Method, Reading
from runmem.trials.outcome import Outcome
from runmem.units import format_bytes

__all__ = ["Rusage"]


class Rusage(Method):
    """What Python's ``resource`` and ``subprocess`` users see: the largest process among those that were waited for."""

    name: ClassVar[str] = "rusage"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "rusage",
            "process",
            "peak",
            "ru_maxrss of wait4: largest process that was waited for",
            low="a process that nobody waited for is missing",
            high="never less than the process that started it",
        ),
    )
    assumptions: ClassVar[str] = "Every process waits for its children."
    limitations: ClassVar[str] = (
        "It is inherited through exec: the value is at least the peak of the process that became the command (here "
        "some 8 MiB of a bare Python, so that little is hidden). A child that nobody waited for is missing."
    )

    def collect(self, outcome: Outcome) -> list[Reading]:
        """Return the value; with the reason where it says nothing of the command."""
        if outcome.maxrss_bytes is None:
            return self.missing("the command was not waited for by its own parent")
        floor = outcome.floor_bytes
        low = floor is not None and outcome.maxrss_bytes <= 1.25 * floor
        reason = f"at the floor of {format_bytes(floor)} inherited from the process that started it" if low else None
        return [Reading("rusage", outcome.maxrss_bytes, reason)]
