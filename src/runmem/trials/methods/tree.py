"""`tree`: runmem's own sampler of a node, on the command and its descendants."""

from __future__ import annotations

import threading
import time

from runmem.formats.mprof import read_trace
from runmem.node.linux_processes import LinuxProcesses
from runmem.node.members import join
from runmem.node.sampler import Sampler, processes_of_this_system
from runmem.trials.methods.contract import ANY_START, Method, MethodColumn, Reading
from runmem.trials.methods.forked_pages import ForkedPages
from runmem.trials.outcome import CommandOutcome, Site

__all__ = ["Tree"]

_TRACE = "tree.dat"
_FIRST_SAMPLE_S = 5.0
_SCAN_SHARE = 1.0  # of a core: new processes are looked for at every sample, since a trial must not miss one


class Tree(Method):
    """Sample the sum over all processes: the memory that a node needs at one time."""

    name = "tree"
    columns = (
        MethodColumn(
            "tree",
            "tree",
            "sample",
            "highest sum over all processes at once, shared pages once",
            low="sampled: misses peaks shorter than two samples",
            high="pages shared by fork, if the kernel does not report them",
        ),
    )
    assumptions = "A process lives for two samples, and its parent until it is found."
    limitations = (
        "A child counts from the sample after the one that found it, so one that lives for less than two is missed. "
        "Pages that a forked child still shares with its parent count once if the kernel reports them (Linux 5.14); "
        "for large processes they are read less often, to use at most 5 % of a core. File-backed and shared pages "
        "count once, as those of the process with most of them. A descendant whose parent ended before it was found "
        "is missing."
    )
    starts = ANY_START
    watches = True

    def __init__(self) -> None:
        self._site: Site | None = None
        self._sampler: Sampler | None = None
        self._thread: threading.Thread | None = None

    def prepare(self, site: Site) -> None:
        self._site = site

    def watch(self, pid: int) -> None:
        if self._site is None:
            raise ValueError("watch was called before prepare")
        join(self._site.folder, pid, _TRACE)
        processes = processes_of_this_system()
        if isinstance(processes, LinuxProcesses):
            processes = ForkedPages(scan_share=_SCAN_SHARE)
        self._sampler = Sampler(str(self._site.folder), self._site.interval_s, processes)
        self._thread = threading.Thread(target=self._sampler.run, name="runmem-trial-tree", daemon=True)
        self._thread.start()
        end_s = time.monotonic() + _FIRST_SAMPLE_S
        trace = self._site.folder / _TRACE
        while self._thread.is_alive() and time.monotonic() < end_s and not (trace.exists() and trace.stat().st_size):
            time.sleep(0.002)

    def collect(self, outcome: CommandOutcome) -> list[Reading]:
        if self._sampler is None or self._thread is None or self._site is None:
            return self.missing("the sampler was not started")
        self._sampler.end()
        self._thread.join()
        trace = read_trace(self._site.folder / _TRACE)
        if trace.peak_bytes is None:
            return self.missing("the command ended before a sample was taken")
        return [Reading("tree", int(trace.peak_bytes), f"{trace.times_s.size} samples")]
