"""`top`: batch mode, as one would look at a job by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import ClassVar

from runmem.trials.methods.contract import Column, Method, Reading
from runmem.trials.outcome import Outcome, Site
from runmem.units import GIB, KIB, MIB

__all__ = ["Top", "parse_res"]

_READY_S = 5.0
_LEAST_INTERVAL_S = 0.5
_UNITS = {"": KIB, "k": KIB, "m": MIB, "g": GIB, "t": 1024 * GIB, "p": 1024**2 * GIB}


def parse_res(text: str) -> int:
    """Return the bytes of a field ``RES``: KiB without a unit, otherwise as its letter says (``1.2g``, ``0.012t``).

    Raises
    ------
    ValueError
        If it is no such field.
    """
    number, unit = (text[:-1], text[-1].lower()) if text[-1:].isalpha() else (text, "")
    try:
        return int(float(number) * _UNITS[unit])
    except (KeyError, ValueError):
        raise ValueError(f"top showed {text!r} as RES, which is no size that top is known to write") from None


class Top(Method):
    """``top -b`` on the process of the command, the highest RES that it showed."""

    name: ClassVar[str] = "top"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "top",
            "process",
            "sample",
            "highest RES that top -b showed for the command's process",
            low="sampled every half second, the first process only and not its children",
            high="rounded to three or four digits",
        ),
    )
    assumptions: ClassVar[str] = "procps top; its defaults, whatever the user's toprc says."
    limitations: ClassVar[str] = (
        "A sample every half second (or the interval, if longer). Only the first process: no children. From 100 MiB on "
        "top rounds to three or four digits."
    )
    starts: ClassVar[frozenset[str]] = frozenset({"local", "srun", "sbatch"})
    watches: ClassVar[bool] = True

    def __init__(self) -> None:
        self._interval_s = _LEAST_INTERVAL_S
        self._folder = Path()
        self._top: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._first = threading.Event()
        self._shown: list[str] = []

    def available(self) -> str | None:
        """Return why top cannot be used."""
        if shutil.which("top") is None:
            return "top is not installed (Debian: package procps)"
        command = ["top", "-b", "-n", "1", "-p", str(os.getpid())]
        shown = subprocess.run(command, capture_output=True, text=True, check=False, env=self._environment())
        return None if " RES " in shown.stdout else "top -b shows no column RES"

    def prepare(self, site: Site) -> None:
        """Remember interval and folder."""
        self._interval_s = max(site.interval_s, _LEAST_INTERVAL_S)
        self._folder = site.folder

    def watch(self, pid: int) -> None:
        """Start top and return when it has shown the process."""
        command = ["top", "-b", "-d", f"{self._interval_s:.1f}", "-p", str(pid)]
        self._top = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                     stderr=subprocess.DEVNULL, env=self._environment(),
                                     start_new_session=True)  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(str(pid),), name="runmem-trial-top", daemon=True)
        self._reader.start()
        self._first.wait(_READY_S)

    def collect(self, outcome: Outcome) -> list[Reading]:
        """End top and return the highest value."""
        if self._top is None or self._reader is None:
            return self.missing("top was not started")
        self._top.kill()
        self._top.wait()
        self._reader.join()
        if not self._shown:
            return self.missing("top never showed the process")
        return [Reading("top", max(map(parse_res, self._shown)), f"{len(self._shown)} samples")]

    def _read(self, pid: str) -> None:
        assert self._top is not None
        assert self._top.stdout is not None
        at = None
        with self._top.stdout as lines:
            for line in lines:
                fields = line.split()
                if "RES" in fields and "PID" in fields:
                    at = fields.index("RES")
                elif at is not None and len(fields) > at and fields[0] == pid and fields[at] != "0":  # 0: a zombie
                    self._shown.append(fields[at])
                    self._first.set()

    def _environment(self) -> dict[str, str]:
        """Return an environment without the user's toprc, in which numbers have a point."""
        nowhere = {"HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent", "LC_ALL": "C", "TERM": "dumb"}
        return {**os.environ, **nowhere, "COLUMNS": "200"}
