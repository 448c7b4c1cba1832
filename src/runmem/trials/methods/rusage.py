"""`rusage`: ``ru_maxrss`` that ``wait4`` gives for the command."""

from __future__ import annotations

from runmem.trials.methods.contract import Method, MethodColumn, Reading
from runmem.trials.outcome import CommandOutcome
from runmem.units import format_bytes

__all__ = ["Rusage"]


class Rusage(Method):
    """Read the value that users of Python's ``resource`` see: the largest process that was waited for."""

    name = "rusage"
    columns = (
        MethodColumn(
            "rusage",
            "process",
            "peak",
            "ru_maxrss of wait4: largest process that was waited for",
            low="a process that no parent waited for is missing",
            high="never less than the process that started it",
        ),
    )
    assumptions = "Every process waits for its children."
    limitations = (
        "It is inherited through exec: the value is at least the peak of the process that became the command (about "
        "8 MiB, of a small Python process). A child that no parent waited for is missing."
    )

    def collect(self, outcome: CommandOutcome) -> list[Reading]:
        """Return the value, with a remark if it is only the inherited one."""
        if outcome.maxrss_bytes is None:
            return self.missing("the command was not waited for by its own parent")
        floor = outcome.floor_bytes
        low = floor is not None and outcome.maxrss_bytes <= 1.25 * floor
        reason = f"at the floor of {format_bytes(floor)} inherited from the process that started it" if low else None
        return [Reading("rusage", outcome.maxrss_bytes, reason)]
