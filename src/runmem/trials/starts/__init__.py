"""The starts, ways to start a command: one file and one class each. `STARTS` is the table."""

from __future__ import annotations

from collections.abc import Iterable

from runmem.errors import SettingError
from runmem.trials.starts.contract import JobOptions, Start
from runmem.trials.starts.local import Local
from runmem.trials.starts.sbatch import Sbatch
from runmem.trials.starts.srun import Srun

__all__ = ["STARTS", "Start", "starts_named"]

STARTS: dict[str, type[Start]] = {start.name: start for start in (Local, Srun, Sbatch)}


def starts_named(names: Iterable[str], job: JobOptions | None = None) -> list[type[Start]]:
    """Return the starts with these names, each once.

    Raises SettingError if a name is unknown, or the start cannot be used on this machine with the options of `job`.
    """
    found = {}
    for name in names:
        if name not in STARTS:
            raise SettingError(f"{name!r} is not a way to start a command; the ways are {', '.join(STARTS)}")
        if (reason := STARTS[name](job).available()) is not None:
            raise SettingError(f"commands cannot be started by {name} here: {reason}")
        found[name] = STARTS[name]
    return list(found.values())
