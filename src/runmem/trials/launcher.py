"""A small process that starts a command for a trial, traces it and reports how it ended.

Started by path, as ``python -I -S .../launcher.py ORDER`` with the order in JSON. It is small because a command
inherits the peak of the process that starts it (exec keeps ``ru_maxrss``). Standard library only.

It writes two lines of JSON to standard output: at the start ``{"pid", "floor_bytes"}``, the process that will execute
the command and its peak so far; at the end ``{"ended_s", "status", "maxrss_bytes", "cpu_s", "processes", "stopped_s",
"reason"}``.

With ``{"follow": PID}`` it traces a process that a batch system started: ``{"reason"}``, then ``{"processes",
"stopped_s"}``.

When a traced process exits, the kernel stops it while it still has its memory, and its high-water mark is read. That
costs five stops per process (its parent's fork, its start, exec, its exit, and the signal of its end), three per
thread, and nothing in between. ``stopped_s`` is about the time of all stops, null without tracing.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Tracer", "main"]

_PTRACE_CONT, _PTRACE_GETEVENTMSG, _PTRACE_SEIZE, _PTRACE_LISTEN = 7, 0x4201, 0x4206, 0x4208
_FORK, _VFORK, _CLONE, _EXEC, _EXIT, _STOP = 1, 2, 3, 4, 6, 128
_TRACE_OPTIONS = (1 << _FORK) | (1 << _VFORK) | (1 << _CLONE) | (1 << _EXEC) | (1 << _EXIT)
_GROUP_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_WALL = 0x40000000
_PR_SET_PDEATHSIG = 1
_SWITCH_S = 20e-6  # context switches of one stop, to this process and back

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, pid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _status(pid: int) -> bytes:
    """Return the status of a process, empty if it is gone; read without a file object, since the process waits."""
    try:
        descriptor = os.open(f"/proc/{pid}/status", os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 8192)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _field(status: bytes, name: bytes) -> bytes:
    """Return a field of a status, empty if missing."""
    after = (b"\n" + status).partition(b"\n" + name + b":\t")[2]
    return after[: after.index(b"\n")] if after else b""


def _high_water_bytes(status: bytes) -> int | None:
    mark = _field(status, b"VmHWM")
    return int(mark.split()[0]) * 1024 if mark else None


class Tracer:
    """Trace a process and its descendants, and read the high-water mark of each as it exits.

    Assumptions: this process may trace its children (Yama's scope 3 and some sandboxes forbid it).
    Limitations: memory of a process from before exec is not in its mark. A command that traces processes itself (a
    debugger, strace) fails; set-user-id programs keep the user's rights unless root traces.
    """

    def __init__(self) -> None:
        self.processes: dict[int, dict[str, Any]] = {}
        self._earlier: list[dict[str, Any]] = []  # processes whose ids were reused
        self._process_of: dict[int, int] = {}  # thread -> process
        self._vforked: set[int] = set()
        self._executed: set[int] = set()
        self._leaderless: set[int] = set()  # processes whose first thread has exited
        self._stops, self._began_s = 0, 0.0

    def seize(self, pid: int) -> None:
        """Start tracing `pid`. Raises OSError where tracing is not allowed."""
        _ptrace(_PTRACE_SEIZE, pid, 0, _TRACE_OPTIONS)
        self._add(pid)
        self._began_s = time.process_time()

    def _add(self, thread: int, parent: int | None = None, is_process: bool = False) -> None:
        if thread in self._process_of or (parent is not None and thread in self.processes):
            return  # a child may stop, and even end, before its parent's fork is reported
        pid = thread
        if not is_process:
            status = _status(thread)
            pid = int(_field(status, b"Tgid") or b"0") or thread
            parent = parent or int(_field(status, b"PPid") or b"0")
        self._process_of[thread] = pid
        if pid == thread:
            if pid in self.processes:
                self._earlier.append(self.processes[pid])
                self._executed.discard(pid)
                self._leaderless.discard(pid)
            self.processes[pid] = {"pid": pid, "parent": parent, "name": "", "start_s": time.monotonic()}
            self.processes[pid] |= {"end_s": None, "peak_bytes": None, "maxrss_bytes": None, "has_own_memory": True}

    def _read(self, thread: int) -> None:
        """Read the high-water mark of the process of `thread` into its record."""
        pid = self._process_of.get(thread)
        record = self.processes.get(pid) if pid is not None else None
        if record is None or pid in self._vforked:  # until exec it has its parent's memory
            return
        status = _status(thread)
        mark = _high_water_bytes(status)
        if mark is not None:
            record["peak_bytes"] = max(mark, record["peak_bytes"] or 0)
        record["name"] = _field(status, b"Name").decode(errors="replace") or record["name"]

    def stopped(self, thread: int, status: int) -> None:
        """Handle a stop and resume the thread."""
        event, number = status >> 16, os.WSTOPSIG(status)
        self._stops += 1
        self._add(thread)
        request, deliver = _PTRACE_CONT, 0
        if event in (_FORK, _VFORK, _CLONE):
            message = ctypes.c_ulong()
            _ptrace(_PTRACE_GETEVENTMSG, thread, 0, ctypes.addressof(message))
            self._add(message.value, self._process_of.get(thread), event != _CLONE)
            if event == _VFORK and message.value not in self._executed:
                self._vforked.add(message.value)
        elif event == _EXEC:
            self._vforked.discard(thread)
            self._leaderless.discard(thread)
            self._executed.add(thread)
            if thread in self.processes:
                self.processes[thread]["peak_bytes"] = None  # of the previous program
        elif event == _EXIT:
            self._exiting(thread)
        elif event == _STOP:
            request = _PTRACE_LISTEN if number in _GROUP_STOPS else _PTRACE_CONT
        elif not event:
            deliver = number
        _ptrace(request, thread, 0, deliver)

    def _exiting(self, thread: int) -> None:
        """Read the mark as the first thread of a process exits, and as those that outlive it do."""
        pid = self._process_of.get(thread)
        if pid == thread:
            self._leaderless.add(thread)
        if pid in self._leaderless:
            self._read(thread)

    def ended(self, thread: int, maxrss_kib: int) -> None:
        """Record that a thread was reaped."""
        self._process_of.pop(thread, None)
        record = self.processes.get(thread)
        if record is not None and record["end_s"] is None:
            record["end_s"] = time.monotonic()
            record["maxrss_bytes"] = maxrss_kib * 1024
            record["has_own_memory"] = thread not in self._vforked
            self._vforked.discard(thread)

    @property
    def stopped_s(self) -> float:
        """About how long threads were stopped: the processor time of this process, and the context switches."""
        return time.process_time() - self._began_s + self._stops * _SWITCH_S

    def finish(self) -> list[dict[str, Any]]:
        """Read the processes that are still alive and return all records; the kernel detaches from them at exit."""
        for pid, record in self.processes.items():
            if record["end_s"] is None:
                self._read(pid)
        return [*self._earlier, *self.processes.values()]


def _run_child(order: dict[str, Any], go: int, ready: int) -> None:
    """Set up the child process, wait, and execute the command."""
    try:
        os.setpgid(0, 0)
        for path, descriptor in ((order["stdout"], 1), (order["stderr"], 2)):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(file, descriptor)
            os.close(file)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        if order["cpus"]:
            os.sched_setaffinity(0, order["cpus"])
        for path in order["groups"]:
            with open(path, "w") as group:
                group.write(str(os.getpid()))
        os.write(ready, b"%d" % (_high_water_bytes(_status(os.getpid())) or 0))
        os.close(ready)
        os.read(go, 1)
        os.execvp(order["argv"][0], order["argv"])
    except BaseException as error:
        os.write(2, f"{order['argv'][0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _wait(child: int, tracer: Tracer) -> tuple[int, Any]:
    """Wait for the end of the child and return its status and resource usage."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, _WALL)
        except InterruptedError:
            continue
        if os.WIFSTOPPED(status):
            try:
                tracer.stopped(pid, status)
            except OSError as error:
                if error.errno != errno.ESRCH:  # killed while it was stopped: its end is reported next
                    raise
            continue
        tracer.ended(pid, usage.ru_maxrss)
        if pid == child:
            return status, usage


def _report(line: dict[str, Any]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


def _abort(group: int) -> None:
    """Kill the command, because the parent of this process is gone."""
    os.killpg(group, signal.SIGKILL)
    os._exit(1)


def follow(pid: int) -> int:
    """Trace a process that another one started; it may outlive this process."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    tracer = Tracer()
    try:
        tracer.seize(pid)
    except OSError as error:
        _report({"reason": str(error)})
        return 1
    _report({"reason": None})
    _wait(pid, tracer)
    _report({"processes": tracer.finish(), "stopped_s": tracer.stopped_s})
    return 0


def main(order: dict[str, Any]) -> int:
    """Start the command, report its process id, wait for its end and report it."""
    parent = os.getppid()
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    child_is_ready, ready = os.pipe()
    go, start = os.pipe()
    child = os.fork()
    if not child:
        _run_child(order, go, ready)
    os.close(ready)
    signal.signal(signal.SIGTERM, lambda *_: _abort(child))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
    tracer, reason = Tracer(), None
    floor = os.read(child_is_ready, 64)
    if order["trace"]:
        try:
            tracer.seize(child)
        except OSError as error:
            reason = f"the command cannot be traced: {error}"
    _report({"pid": child, "floor_bytes": int(floor or b"0") or None})
    os.write(start, b"1")
    status, usage = _wait(child, tracer)
    ended_s = time.monotonic()
    end = {"ended_s": ended_s, "status": status, "maxrss_bytes": usage.ru_maxrss * 1024}
    traced = {"processes": tracer.finish(), "stopped_s": tracer.stopped_s if order["trace"] else None}
    _report({**end, "cpu_s": usage.ru_utime + usage.ru_stime, **traced, "reason": reason})
    return 0


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    sys.exit(follow(given["follow"]) if "follow" in given else main(given))
