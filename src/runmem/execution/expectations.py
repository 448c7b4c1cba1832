"""What calls are expected to need of memory: as declared, as measured in this run, as recorded by an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runmem.errors import SettingError
from runmem.events import TaskRecord
from runmem.execution.placement import Demand
from runmem.store.run import each_record
from runmem.units import MIB

__all__ = ["NEGLIGIBLE_BYTES", "Expectations", "needs_in_run"]

NEGLIGIBLE_BYTES = 4 * MIB
"""Calls that need no more are sent like those of a run that does not look at memory: in bundles, and ahead."""

_MARGIN = 0.1


@dataclass(slots=True)
class _SeenNeeds:
    needed_bytes: int = 0
    kept_bytes: int = 0


class Expectations:
    """Memory that calls of each task are expected to need, beyond what their worker has in use before.

    An expectation is the most that a call of the task has needed so far, in this run or the earlier one, and a tenth
    more; or what the task declares, if that is more. Calls of one task count as equal, whatever their arguments.

    Parameters
    ----------
    known : mapping
        What calls needed in an earlier run, in bytes, by the name of the task.
    """

    def __init__(self, known: Mapping[str, int]) -> None:
        self._seen = {name: _SeenNeeds(needed) for name, needed in known.items()}

    def observe(self, name: str, needed_bytes: int, kept_bytes: int) -> None:
        """Note what a call has needed, and how much of that its worker still has in use after it."""
        seen = self._seen.setdefault(name, _SeenNeeds())
        seen.needed_bytes = max(seen.needed_bytes, needed_bytes)
        seen.kept_bytes = max(seen.kept_bytes, kept_bytes)

    def kept_bytes(self, name: str) -> int:
        """Return the most that a call of a task has left on its worker; 0 if nothing is known."""
        seen = self._seen.get(name)
        return 0 if seen is None else seen.kept_bytes

    def demand(self, name: str, declared: Demand | None, share_bytes: int) -> Demand | None:
        """Return what a call needs; None: so little that it need not be counted.

        Parameters
        ----------
        declared : Demand or None
            What `@constraint` or ``memory=`` asks for.
        share_bytes : int
            What a call is expected to need of which nothing is known.
        """
        seen = self._seen.get(name)
        units, given_bytes = (1, 0) if declared is None else (declared.units, declared.memory_bytes)
        alone = declared is not None and declared.alone
        if seen is None and not given_bytes:
            return Demand(units, share_bytes, alone, is_guess=True)
        measured_bytes = 0 if seen is None else int(seen.needed_bytes * (1 + _MARGIN))
        needed_bytes = max(given_bytes, measured_bytes)
        if max(needed_bytes, self.kept_bytes(name)) <= NEGLIGIBLE_BYTES and units <= 1 and not alone:
            return None
        return Demand(units, needed_bytes, alone)


def needs_in_run(path: Path) -> dict[str, int]:
    """Return the most memory, in bytes, that a call of each task has needed in an earlier run.

    Raises
    ------
    SettingError
        If it is no run directory, or has no measurements.
    """
    needs: dict[str, int] = {}
    try:
        for record in each_record(path):
            if (needed := _needed_bytes(record)) is not None:
                needs[record.name] = max(needs.get(record.name, 0), needed)
    except SettingError as error:
        raise SettingError(f"--memory_from: {error}") from None
    if not needs:
        raise SettingError(
            f"--memory_from: {path} has no measurement of a task: name a run that was made with "
            "--python_memory_profile or --memory_aware."
        )
    return needs


def _needed_bytes(record: TaskRecord) -> int | None:
    if record.increment_bytes is not None:
        return record.increment_bytes
    if record.peak_bytes is None or record.base_bytes is None:
        return None
    return record.peak_bytes - record.base_bytes
