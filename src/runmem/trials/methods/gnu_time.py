"""`time`: GNU time's %M."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from runmem.trials.methods.contract import Column, Method, Reading
from runmem.trials.outcome import Outcome, Site
from runmem.units import KIB

__all__ = ["GnuTime"]


class GnuTime(Method):
    """GNU time around the command; not the shell's keyword."""

    name: ClassVar[str] = "time"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "time",
            "process",
            "peak",
            "GNU time %M: ru_maxrss of the largest process that was waited for",
            low="a process that nobody waited for is missing",
            high="never less than GNU time itself and what forked",
        ),
    )
    starts: ClassVar[frozenset[str]] = frozenset({"local", "srun", "sbatch"})
    assumptions: ClassVar[str] = "Every process waits for its children."
    limitations: ClassVar[str] = (
        "The largest single process, whichever it was: the launcher of a job may be larger than its work. A child that "
        "nobody waited for is missing. GNU time 1.7 gave four times the value; this is 1.8 or later."
    )

    def __init__(self) -> None:
        self._file: Path | None = None

    def available(self) -> str | None:
        """Return why GNU time cannot be used."""
        program = shutil.which("time")
        if program is None:
            return "GNU time is not installed (Debian and Fedora: package time)"
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        text = version.stdout + version.stderr
        return None if "GNU" in text else f"{program} is not GNU time"

    def prepare(self, site: Site) -> None:
        """Choose the file that it writes to."""
        self._file = site.folder / "gnu_time"

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Return the command under GNU time."""
        return [shutil.which("time") or "time", "-f", "%M", "-o", str(self._file), *command]

    def collect(self, outcome: Outcome) -> list[Reading]:
        """Read %M, in KiB, from the last line: a line about a signal may stand before it."""
        try:
            last = self._file.read_text().split("\n")[-2] if self._file is not None else ""
            parts = "this task or step alone: the command has others in its job" if outcome.has_other_parts else None
            return [Reading("time", int(last) * KIB, parts, outcome.has_other_parts)]
        except (OSError, IndexError, ValueError) as error:
            return self.missing(f"GNU time left no value: {error}")
