"""`pss`: proportional set size, summed over the command and all that it started."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from pathlib import Path
from typing import ClassVar

from runmem.trials.methods.contract import Column, Method, Reading
from runmem.trials.methods.descendants import tree_of
from runmem.trials.outcome import Outcome, Site
from runmem.units import KIB

__all__ = ["ProportionalSize"]

_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
_SHARE = 0.02  # of a core, that the reading may use: it walks the page tables, 140 ms for 8 GiB


class ProportionalSize(Method):
    """Samples of ``smaps_rollup``: a page that n processes map counts as 1/n in each."""

    name: ClassVar[str] = "pss"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "pss",
            "tree",
            "sample",
            "highest sum of proportional set sizes, shared pages divided",
            low="pages shared with processes outside count in part; sampled: misses what is short",
            high="the processes are not read at one moment",
        ),
    )
    assumptions: ClassVar[str] = "The command runs as this user, or this is root."
    limitations: ClassVar[str] = (
        "Pages shared with processes outside of the command count in part. The processes are read one after the other, "
        "so a sum is not of one moment. The larger a process the longer a reading, and the rarer they are: at most 2 % "
        "of a core go into them. A child that lives for less than the interval is missed."
    )
    starts: ClassVar[frozenset[str]] = frozenset({"local", "srun", "sbatch"})
    watches: ClassVar[bool] = True

    def __init__(self) -> None:
        self._interval_s = 0.1
        self._peak: int | None = None
        self._samples = 0
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def available(self) -> str | None:
        """Return why it cannot be read here."""
        try:
            return None if _PSS.search(Path("/proc/self/smaps_rollup").read_text()) else "smaps_rollup has no Pss"
        except OSError as error:
            return f"this kernel gives no smaps_rollup (Linux 4.14 does): {error.strerror}"

    def prepare(self, site: Site) -> None:
        """Remember the interval."""
        self._interval_s = site.interval_s

    def watch(self, pid: int) -> None:
        """Sample in a thread, the first time here."""
        self._sample(pid)
        self._thread = threading.Thread(target=self._run, args=(pid,), name="runmem-trial-pss", daemon=True)
        self._thread.start()

    def collect(self, outcome: Outcome) -> list[Reading]:
        """Return the highest sum."""
        self._end.set()
        if self._thread is None or self._peak is None:
            return self.missing("no sample could be taken: the command belongs to another user, or ended at once")
        self._thread.join()
        return [Reading("pss", self._peak, f"{self._samples} samples")]

    def _run(self, pid: int) -> None:
        pause_s = self._interval_s
        while not self._end.wait(pause_s):
            began = time.thread_time()
            self._sample(pid)
            pause_s = max(self._interval_s, (time.thread_time() - began) / _SHARE)

    def _sample(self, root: int) -> None:
        total = 0
        for pid in tree_of(root):
            with contextlib.suppress(OSError):  # it has ended
                match = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
                total += int(match.group(1)) * KIB if match else 0
        if total:
            self._samples += 1
            self._peak = max(total, self._peak or 0)
