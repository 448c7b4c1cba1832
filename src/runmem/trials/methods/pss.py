"""`pss`: proportional set size, summed over the command and its descendants."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from pathlib import Path

from runmem.trials.methods.contract import ANY_START, Method, MethodColumn, Reading
from runmem.trials.methods.descendants import tree_of
from runmem.trials.outcome import CommandOutcome, Site
from runmem.units import KIB

__all__ = ["ProportionalSize"]

_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
_SHARE = 0.02  # of a core, for the readings: one walks the page tables, 140 ms for 8 GiB


class ProportionalSize(Method):
    """Sample ``smaps_rollup``: a page that n processes map counts as 1/n in each."""

    name = "pss"
    columns = (
        MethodColumn(
            "pss",
            "tree",
            "sample",
            "highest sum of proportional set sizes, shared pages divided",
            low="pages shared with other processes count in part; sampled: misses short peaks",
            high="the processes are not read at the same moment",
        ),
    )
    assumptions = "The command runs as this user, or this user is root."
    limitations = (
        "Pages shared with processes outside the command count in part. The processes are read one after another, so a "
        "sum is not of one moment. Readings of large processes take longer and are rarer: they use at most 2 % of a "
        "core. A child that lives for less than the interval is missed."
    )
    starts = ANY_START
    watches = True

    def __init__(self) -> None:
        self._interval_s = 0.1
        self._peak: int | None = None
        self._samples = 0
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def available(self) -> str | None:
        try:
            return None if _PSS.search(Path("/proc/self/smaps_rollup").read_text()) else "smaps_rollup has no Pss"
        except OSError as error:
            return f"this kernel has no smaps_rollup (Linux 4.14 has): {error.strerror}"

    def prepare(self, site: Site) -> None:
        self._interval_s = site.interval_s

    def watch(self, pid: int) -> None:
        self._sample(pid)
        self._thread = threading.Thread(target=self._run, args=(pid,), name="runmem-trial-pss", daemon=True)
        self._thread.start()

    def collect(self, outcome: CommandOutcome) -> list[Reading]:
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
