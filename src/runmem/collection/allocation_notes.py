"""Reports at the end of a run which allocations were to be recorded and were not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runmem.collection.observer import Observer
from runmem.events import ProfileReported, RunEnded, TaskSubmitted
from runmem.standard_error import say

__all__ = ["AllocationNotes"]

_MOST_NAMES = 10


class AllocationNotes(Observer):
    """Prints a note for each task that ``--memray`` names and no call has, and for each reason not to record a call.

    Parameters
    ----------
    names : sequence of str
        Those of ``--memray``.
    say : callable
        Prints a line.
    """

    def __init__(self, names: Sequence[str], say: Callable[[str], None] = say) -> None:
        self._names = names
        self._say = say
        self._called: set[str] = set()
        self._reasons: dict[tuple[str, str], int] = {}

    def task_submitted(self, event: TaskSubmitted) -> None:
        """Note which tasks there are."""
        self._called.add(event.name)

    def profile_reported(self, event: ProfileReported) -> None:
        """Note why a call was not recorded."""
        if event.not_recorded is not None:
            place = event.name, event.not_recorded
            self._reasons[place] = self._reasons.get(place, 0) + 1

    def run_ended(self, event: RunEnded) -> None:
        """Print the notes."""
        for name in self._names:
            if not any(called == name or name.endswith(f".{called}") for called in self._called):
                tasks = sorted(self._called)
                more = f" and {len(tasks) - _MOST_NAMES} more" if len(tasks) > _MOST_NAMES else ""
                known = f"The tasks are {', '.join(tasks[:_MOST_NAMES])}{more}." if tasks else "No task was called."
                self._say(f"runmem: note: --memray={name}: no task of this name was called. {known}")
        for (name, reason), count in self._reasons.items():
            calls = "a call" if count == 1 else f"{count:,} calls"
            self._say(f"runmem: note: the allocations of {calls} of {name} were not recorded: {reason}")
