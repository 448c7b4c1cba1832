"""The sampler of a node: read the memory of every member and append it to the traces.

`runmem.node.launch` starts it by path, as ``python -S -E .../node/sampler.py SPOOL --interval 0.1``, so that it uses
only some MiB and starts in tens of milliseconds. It imports only a few modules of the standard library.

It ends when ``SPOOL/stop`` exists (after a last sample), when the spool folder is gone, when no member has been alive
for five seconds, and on SIGTERM (after a last sample).
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import sys
import time
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING or __package__:
    from runmem.node.clock import clock_of
    from runmem.node.interval import read_interval
    from runmem.node.linux_processes import LinuxProcesses
    from runmem.node.members import FOLDER, Member, read_members
    from runmem.node.sampled_peaks import PeakWriter, SampledPeak, file_of
    from runmem.node.trace_file import TraceFile
    from runmem.node.trace_lines import TraceLines, total_bytes
else:  # started by path: this folder is the first on the path, and the package stays unimported
    from clock import clock_of
    from interval import read_interval
    from linux_processes import LinuxProcesses
    from members import FOLDER, Member, read_members
    from sampled_peaks import PeakWriter, SampledPeak, file_of
    from trace_file import TraceFile
    from trace_lines import TraceLines, total_bytes

if TYPE_CHECKING:
    from types import FrameType

    from runmem.node.gpu_memory import GpuMemory, GpuReading
    from runmem.node.processes import Processes

__all__ = ["Sampler", "main", "processes_of_this_system", "total_bytes"]

_IDLE_S = 5.0
_LONGEST_SLEEP_S = 0.5  # a long interval must not delay the end of a run
_TIMESTAMP_S = 0.1  # two changes of a folder within this time may have the same time stamp


class _Folder:
    """A folder whose files are added and removed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._time_ns = 0

    def changed(self, now_s: float) -> bool:
        """Return True if files may have come or gone since the last call. Raises OSError without the folder."""
        time_ns = os.stat(self._path).st_mtime_ns
        if time_ns == self._time_ns:
            return False
        self._time_ns = time_ns if now_s - time_ns / 1e9 > _TIMESTAMP_S else 0
        return True


class Sampler:
    """Sample the members of one spool folder.

    Parameters
    ----------
    spool_root : str
    interval_s : float
        Seconds from one sample to the next.
    processes : Processes
        Reader of the memory.
    gpus : GpuMemory, optional
        Reader of the memory on GPUs.
    """

    def __init__(self, spool_root: str, interval_s: float, processes: Processes, gpus: GpuMemory | None = None) -> None:
        self._root = spool_root
        self._now = clock_of(spool_root)
        self._folder = _Folder(spool_root)
        self._member_folder = _Folder(os.path.join(spool_root, FOLDER))
        self._stop = os.path.join(spool_root, "stop")
        self._least_s = self._interval_s = max(interval_s, processes.least_interval_s)
        self._note = b""
        self._metric = "rss"
        self._gpus = gpus
        self._processes = processes
        self._trace_of: dict[int, str] = {}
        self._lines: dict[str, TraceLines] = {}
        self._files: dict[str, TraceFile] = {}
        self._peaks: dict[int, PeakWriter] = {}  # of the members that have had children
        self._ending = False
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._waker, False)

    def wake_by_signals(self) -> None:
        """Let signals end the pause between two samples; call it in the main thread."""
        signal.set_wakeup_fd(self._waker)

    def note(self, text: str) -> None:
        """Add a remark on the values to the traces."""
        if text:
            self._note += b"NOTE %s\n" % " ".join(text.split()).encode("utf-8", "replace")

    def end(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Make `run` return after one more sample."""
        self._ending = True

    def run(self) -> None:
        """Sample on an absolute schedule, so that it does not drift; missed ticks are skipped."""
        began = last_alive = time.monotonic()
        tick, interval_s = 0, self._interval_s
        while True:
            ending = self._must_end()
            if interval_s != self._interval_s:
                began, tick, interval_s = time.monotonic(), 0, self._interval_s
            if self.sample(self._now()):
                last_alive = time.monotonic()
            if ending or time.monotonic() - last_alive > _IDLE_S:
                break
            tick = max(tick + 1, int((time.monotonic() - began) / self._interval_s) + 1)
            self._sleep_until(began + tick * self._interval_s)
        for file in self._files.values():
            file.close()

    def sample(self, now_s: float) -> bool:
        """Append a reading of every member at `now_s` (seconds since the epoch); return False if none is alive."""
        self._update_members()
        self._processes.refresh()
        for pid, tree in self._processes.changes().items():
            self._lines[self._trace_of[pid]].change(pid, tree)
        for pid, reading in self._processes.children().items():
            self._lines[self._trace_of[pid]].add_children(pid, reading)
            self._add_peak(pid, SampledPeak(*reading, reading[0] is None))
        if self._gpus is not None and (gpus := self._gpus.read()) is not None:
            self._add_gpus(gpus)
        for note in self._processes.notes():
            self.note(note)
        alive = False
        for trace, lines in self._lines.items():
            if tick := lines.at(now_s):
                alive = True
                self._files[trace].append(self._note + tick, now_s)
        if alive:
            self._note = b""
        return alive

    def _add_gpus(self, reading: GpuReading) -> None:
        """Add the memory on GPUs to the traces of nodes, and to the peaks of the processes that use it."""
        found: dict[int, int | None] = {}
        for pid, size in reading.processes.items():
            if (owner := self._processes.owner(pid)) is not None:
                before = found.get(owner, 0)
                found[owner] = None if size is None or before is None else before + size
        known = {pid: size for pid, size in found.items() if size is not None}
        for pid, size in known.items():
            self._add_peak(pid, SampledPeak(gpu_bytes=size))
        for lines in self._lines.values():
            if lines.is_of_node:
                lines.add_gpus(reading.devices, known)

    def _add_peak(self, pid: int, reading: SampledPeak) -> None:
        """Give a reading to a process that runs tasks."""
        try:
            if pid not in self._peaks:
                self._peaks[pid] = PeakWriter(file_of(self._root, pid))
            self._peaks[pid].add(reading)
        except OSError:  # it runs no tasks, or the disk is full
            return

    def _update_members(self) -> None:
        try:
            if not self._member_folder.changed(time.time()):
                return
            members = read_members(self._root)
        except OSError:
            return  # no member has joined yet, or the spool is gone, which `_must_end` notices
        metric = next((member.metric for member in members), self._metric)
        if metric != self._metric:
            self._metric, self._processes = metric, processes_of_this_system(metric)
        self._trace_of = {member.pid: member.trace for member in members}
        for pid in self._peaks.keys() - self._trace_of.keys():
            self._peaks.pop(pid).close()
        self._lines = {member.trace: TraceLines() for member in members}
        for member in members:
            self._lines[member.trace].add(member.pid, member.series)
            if member.trace not in self._files:
                path = os.path.join(self._root, member.trace)
                self._files[member.trace] = TraceFile(path, self._header(member))
        self._processes.watch(members)

    def _header(self, member: Member) -> bytes:
        note = f"NOTE {self._processes.note}\n" if self._processes.note else ""
        return f"CMDLINE {member.cmdline}\n{note}".encode("utf-8", "replace")

    def _must_end(self) -> bool:
        if not self._ending:
            try:
                if self._folder.changed(time.time()):
                    self._ending = os.access(self._stop, os.F_OK)
                    self._adapt()
            except OSError:
                self._ending = True  # the spool is gone
        return self._ending

    def _adapt(self) -> None:
        """Take the interval that the master asks for, if it is longer than that of the start."""
        if (wanted := read_interval(self._root)) is None:
            return
        interval_s = max(wanted[0], self._least_s)
        if interval_s != self._interval_s:
            self._interval_s = interval_s
            self.note(wanted[1])

    def _sleep_until(self, due: float) -> None:
        while (left := due - time.monotonic()) > 0:
            woken, _, _ = select.select([self._wake], [], [], min(left, _LONGEST_SLEEP_S))
            if woken:
                os.read(self._wake, 64)
            if (woken or left > _LONGEST_SLEEP_S) and self._must_end():
                return


def processes_of_this_system(metric: str = "rss") -> Processes:
    """Return the reader for this system, of ``rss``, ``pss`` or ``uss`` where that can be read."""
    if os.path.exists("/proc/self/smaps_rollup") and metric != "rss":
        if TYPE_CHECKING or __package__:
            from runmem.node.page_shares import PageShares
        else:
            from page_shares import PageShares
        return PageShares(metric)
    if os.path.exists("/proc/self/statm"):
        return LinuxProcesses(note=_not_known(metric))
    if TYPE_CHECKING or __package__:
        from runmem.node.ps_processes import PsProcesses
    else:
        from ps_processes import PsProcesses
    return PsProcesses(_not_known(metric))


def _not_known(metric: str) -> str:
    """Return a remark for traces in which another metric was asked for."""
    return "" if metric == "rss" else f"{metric} cannot be read on this system; "


def main(arguments: list[str]) -> int:
    """Sample until the end; return 0, even if another sampler has the spool, and 2 for unusable arguments.

    With ``--lock DESCRIPTOR``, an open and locked file, it continues in a forked process, which no parent has to reap,
    and the first process ends as soon as the file contains the id of the second.
    """
    try:
        root, *rest = arguments
        options = dict(zip(rest[::2], rest[1::2], strict=True))
        interval_s = float(options.pop("--interval", "0.1"))
        inherited = int(options.pop("--lock", "-1"))
        nvml = options.pop("--nvml", "")
        if options or not 0 < interval_s < float("inf"):
            raise ValueError(f"unknown options {options} or unusable interval {interval_s} s")
    except ValueError as error:
        usage = "usage: sampler.py SPOOL [--interval SECONDS] [--lock DESCRIPTOR] [--nvml FOLDER]"
        print(f"{usage}: {error}", file=sys.stderr)
        return 2
    root = os.path.abspath(root)
    lock = inherited if inherited >= 0 else os.open(os.path.join(root, "sampler.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    pid = os.fork() if inherited >= 0 else 0
    number = b"%d\n" % (pid or os.getpid())
    os.pwrite(lock, number, 0)  # by both processes, so that the file is never empty after the first has ended
    os.ftruncate(lock, len(number))
    if not pid:
        _sample_until_the_end(root, interval_s, nvml)
    return 0


def _gpus(folder: str) -> tuple[GpuMemory | None, str]:
    """Return the reader of GPUs by the module ``pynvml`` in a folder; without one, the reason if there is a GPU."""
    if not folder:
        return None, ""
    sys.path.append(folder)
    try:
        library = import_module("pynvml")
        if TYPE_CHECKING or __package__:
            from runmem.node.gpu_memory import GpuMemory
        else:
            from gpu_memory import GpuMemory
        return GpuMemory(library), ""
    except Exception as error:  # of any version of the library
        return None, str(error)


def _sample_until_the_end(root: str, interval_s: float, nvml: str) -> None:
    gpus, note = _gpus(nvml)
    sampler = Sampler(root, interval_s, processes_of_this_system(), gpus)
    sampler.note(note)
    sampler.wake_by_signals()
    signal.signal(signal.SIGTERM, sampler.end)
    for terminal in (signal.SIGINT, signal.SIGHUP):
        signal.signal(terminal, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # one descriptor is open for each process
    try:
        sampler.run()
    except Exception:
        import traceback  # its standard error is not read: write the reason to a file beside the traces

        with open(os.path.join(root, "sampler.err"), "a", encoding="utf-8") as reason:
            traceback.print_exc(file=reason)
        raise


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # faster, since the end of a run waits for it; there is nothing to flush
