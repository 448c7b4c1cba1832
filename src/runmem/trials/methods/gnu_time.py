"""`time`: the %M of GNU time."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from runmem.trials.methods.contract import ANY_START, Method, MethodColumn, Reading
from runmem.trials.outcome import CommandOutcome, Site
from runmem.units import KIB

__all__ = ["GnuTime"]


class GnuTime(Method):
    """Run the command under GNU time, not the shell's keyword."""

    name = "time"
    columns = (
        MethodColumn(
            "time",
            "process",
            "peak",
            "GNU time %M: ru_maxrss of the largest process that was waited for",
            low="a process that no parent waited for is missing",
            high="never less than GNU time and the process that forked it",
        ),
    )
    starts = ANY_START
    assumptions = "Every process waits for its children."
    limitations = (
        "The largest single process, which may be the launcher of a job and not its work. A child that no parent "
        "waited for is missing. GNU time 1.7 reported four times the value; 1.8 or later is needed."
    )

    def __init__(self) -> None:
        self._file: Path | None = None

    def available(self) -> str | None:
        program = shutil.which("time")
        if program is None:
            return "GNU time is not installed (Debian and Fedora: package time)"
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        text = version.stdout + version.stderr
        return None if "GNU" in text else f"{program} is not GNU time"

    def prepare(self, site: Site) -> None:
        self._file = site.folder / "gnu_time"

    def wrap(self, command: Sequence[str]) -> list[str]:
        return [shutil.which("time") or "time", "-f", "%M", "-o", str(self._file), *command]

    def collect(self, outcome: CommandOutcome) -> list[Reading]:
        """Read %M, in KiB, from the last line; a line about a signal may precede it."""
        try:
            last = self._file.read_text().split("\n")[-2] if self._file is not None else ""
            parts = "one task or step alone: the job has others" if outcome.has_other_parts else None
            return [Reading("time", int(last) * KIB, parts, outcome.has_other_parts)]
        except (OSError, IndexError, ValueError) as error:
            return self.missing(f"GNU time wrote no value: {error}")
