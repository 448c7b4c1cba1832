"""`mprof`: memory_profiler's samples of a process and its children, as ``mprof run`` takes them."""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from runmem.formats.mprof import read_trace
from runmem.trials.methods.contract import ANY_START, Method, MethodColumn, Reading
from runmem.trials.outcome import CommandOutcome, Site

__all__ = ["Mprof"]

_FIRST_SAMPLE_S = 10.0
_WATCH = """
import sys
import psutil
from memory_profiler import memory_usage
try:
    with open(sys.argv[3], "w", buffering=1) as stream:
        memory_usage(int(sys.argv[1]), interval=float(sys.argv[2]), timeout=1e9, timestamps=True, include_children=True,
                     multiprocess=True, stream=stream)
except psutil.NoSuchProcess:
    pass
"""


class Mprof(Method):
    """memory_profiler's sampler with the options of ``mprof run --include-children --multiprocess``."""

    name = "mprof"
    columns = (
        MethodColumn(
            "mprof",
            "tree",
            "sample",
            "highest sum of the RSS of all processes, memory_profiler's samples",
            low="sampled: misses peaks shorter than a sample",
            high="counts a shared page once for each process",
        ),
    )
    assumptions = "memory_profiler is installed."
    limitations = (
        "Shared pages count in every process that maps them. A sample of many children takes milliseconds, which "
        "lengthens the interval."
    )
    starts = ANY_START
    watches = True

    def __init__(self) -> None:
        self._trace = Path()
        self._interval_s = 0.1
        self._process: subprocess.Popen[bytes] | None = None

    def available(self) -> str | None:
        return None if find_spec("memory_profiler") else "memory_profiler is not installed"

    def prepare(self, site: Site) -> None:
        self._trace = site.folder / "mprof.dat"
        self._interval_s = site.interval_s

    def watch(self, pid: int) -> None:
        command = [sys.executable, "-c", _WATCH, str(pid), str(self._interval_s), str(self._trace)]
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        end_s = time.monotonic() + _FIRST_SAMPLE_S
        while self._process.poll() is None and time.monotonic() < end_s:
            if self._trace.exists() and self._trace.stat().st_size:
                return
            time.sleep(0.005)

    def collect(self, outcome: CommandOutcome) -> list[Reading]:
        if self._process is None:
            return self.missing("mprof was not started")
        self._process.kill()
        self._process.wait()
        trace = read_trace(self._trace)
        if trace.peak_bytes is None:
            return self.missing("mprof took no sample")
        return [Reading("mprof", int(trace.peak_bytes), f"{trace.times_s.size} samples")]
