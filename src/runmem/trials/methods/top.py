"""`top`: batch mode, as a person would watch a job."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading

from runmem.trials.methods.contract import ANY_START, Method, MethodColumn, Reading
from runmem.trials.outcome import CommandOutcome, Site
from runmem.units import GIB, KIB, MIB

__all__ = ["Top", "parse_res"]

_FIRST_SAMPLE_S = 5.0
_LEAST_INTERVAL_S = 0.5
_UNITS = {"": KIB, "k": KIB, "m": MIB, "g": GIB, "t": 1024 * GIB, "p": 1024**2 * GIB}


def parse_res(text: str) -> int:
    """Return the bytes of a field ``RES``: KiB without a unit, otherwise in the unit of its letter (``1.2g``).

    Raises ValueError if the text is not such a field.
    """
    number, unit = (text[:-1], text[-1].lower()) if text[-1:].isalpha() else (text, "")
    try:
        return int(float(number) * _UNITS[unit])
    except (KeyError, ValueError):
        raise ValueError(f"top showed {text!r} as RES, which is not a size") from None


class Top(Method):
    """Run ``top -b`` on the process of the command and take the highest RES."""

    name = "top"
    columns = (
        MethodColumn(
            "top",
            "process",
            "sample",
            "highest RES that top -b showed for the command's process",
            low="sampled every half second, the first process without its children",
            high="rounded to three or four digits",
        ),
    )
    assumptions = "top is that of procps; it runs without the user's toprc."
    limitations = (
        "A sample every half second (or the interval, if longer). Only the first process: no children. From 100 MiB on "
        "top rounds to three or four digits."
    )
    starts = ANY_START
    watches = True

    def __init__(self) -> None:
        self._interval_s = _LEAST_INTERVAL_S
        self._top: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._first = threading.Event()
        self._shown: list[str] = []

    def available(self) -> str | None:
        if shutil.which("top") is None:
            return "top is not installed (Debian: package procps)"
        command = ["top", "-b", "-n", "1", "-p", str(os.getpid())]
        shown = subprocess.run(command, capture_output=True, text=True, check=False, env=self._environment())
        return None if " RES " in shown.stdout else "top -b shows no column RES"

    def prepare(self, site: Site) -> None:
        self._interval_s = max(site.interval_s, _LEAST_INTERVAL_S)

    def watch(self, pid: int) -> None:
        command = ["top", "-b", "-d", f"{self._interval_s:.1f}", "-p", str(pid)]
        self._top = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=self._environment(), start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(str(pid),), name="runmem-trial-top", daemon=True)
        self._reader.start()
        self._first.wait(_FIRST_SAMPLE_S)

    def collect(self, outcome: CommandOutcome) -> list[Reading]:
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
        """Return an environment without the user's toprc and with decimal points."""
        nowhere = {"HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent", "LC_ALL": "C", "TERM": "dumb"}
        return {**os.environ, **nowhere, "COLUMNS": "200"}
