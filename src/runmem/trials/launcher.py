"""The small process that starts a command for a trial, follows it to its end and says how it ended.

Started by path, as ``python -I -S .../launcher.py ORDER`` with the order in JSON. It is small because a command
inherits the peak of the process that starts it (``ru_maxrss`` goes on through exec). Standard library only.

Two lines of JSON on standard output. First ``{"pid", "floor_bytes"}``: the process that is about to become the command
and its size until then. At the end ``{"ended_s", "status", "maxrss_bytes", "cpu_s", "processes", "stopped_s",
"reason"}``.

With ``{"follow": PID}`` a process that a batch system started is followed: ``{"reason"}``, then ``{"processes",
"stopped_s"}``.

Following is tracing: the kernel stops each process at its exit, while its memory is still there, and the high-water
mark is read then. That costs five stops a process (its parent's fork, its start, its execution of a program, its exit,
and the signal of its end), three a thread, and nothing in between. ``stopped_s`` is about the time of
all stops, null without tracing.
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
_OPTIONS = (1 << _FORK) | (1 << _VFORK) | (1 << _CLONE) | (1 << _EXEC) | (1 << _EXIT)
_GROUP_STOPS = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_WALL = 0x40000000
_PR_SET_PDEATHSIG = 1
_SWITCH_S = 20e-6  # of a stop, what is not this process's own time: the switch to it and the switch back

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, pid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _status(pid: int) -> bytes:
    """Return a process's status; empty when it is gone. A stopped process waits for it, so it is read plainly."""
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
    """Return a field of a status; empty where it has none."""
    place = status.find(b"\n" + name + b":\t") if name != b"Name" else -1
    start = 6 if name == b"Name" else place + len(name) + 3
    if not status or (place < 0 and name != b"Name"):
        return b""
    return status[start : status.index(b"\n", start)]


def _high_water_bytes(status: bytes) -> int | None:
    mark = _field(status, b"VmHWM")
    return int(mark.split()[0]) * 1024 if mark else None


class Tracer:
    """Follows a process and all that it starts, with the high-water mark of each when it exits.

    Assumptions: the tracer may trace what it started (Yama's scope 3 and some sandboxes forbid it).
    Limitations: memory that a process had before it executed another program is not in its mark. A command that traces
    processes itself (a debugger, strace) cannot; set-user-id programs get no other rights unless root traces.
    """

    def __init__(self) -> None:
        self.processes: dict[int, dict[str, Any]] = {}
        self._earlier: list[dict[str, Any]] = []  # of processes whose numbers were given again
        self._of_thread: dict[int, int] = {}
        self._vforked: set[int] = set()
        self._executed: set[int] = set()
        self._leaderless: set[int] = set()  # processes whose first thread has exited
        self._stops, self._began_s = 0, 0.0

    def seize(self, pid: int) -> None:
        """Follow `pid`, which is a child of this process. Raises OSError where tracing is not allowed."""
        _ptrace(_PTRACE_SEIZE, pid, 0, _OPTIONS)
        self._meet(pid)
        self._began_s = time.process_time()

    def _meet(self, thread: int, parent: int | None = None, is_process: bool = False) -> None:
        if thread in self._of_thread or (parent is not None and thread in self.processes):
            return  # a child may stop, and even end, before its parent tells of it
        pid = thread
        if not is_process:
            status = _status(thread)
            pid = int(_field(status, b"Tgid") or b"0") or thread
            parent = parent or int(_field(status, b"PPid") or b"0")
        self._of_thread[thread] = pid
        if pid == thread:
            if pid in self.processes:
                self._earlier.append(self.processes[pid])
                self._executed.discard(pid)
                self._leaderless.discard(pid)
            self.processes[pid] = {"pid": pid, "parent": parent, "name": "", "start_s": time.monotonic(),
                                   "end_s": None, "peak_bytes": None, "maxrss_bytes": None, "own": True}  # fmt: skip

    def _read(self, thread: int) -> None:
        """Fold the mark of the process of `thread` into its record."""
        pid = self._of_thread.get(thread)
        record = self.processes.get(pid) if pid is not None else None
        if record is None or pid in self._vforked:  # until it executes, what it shows is its parent's memory
            return
        status = _status(thread)
        mark = _high_water_bytes(status)
        if mark is not None:
            record["peak_bytes"] = max(mark, record["peak_bytes"] or 0)
        record["name"] = _field(status, b"Name").decode(errors="replace") or record["name"]

    def stopped(self, thread: int, status: int) -> None:
        """Deal with a stop and let the thread go on."""
        event, number = status >> 16, os.WSTOPSIG(status)
        self._stops += 1
        self._meet(thread)
        request, deliver = _PTRACE_CONT, 0
        if event in (_FORK, _VFORK, _CLONE):
            message = ctypes.c_ulong()
            _ptrace(_PTRACE_GETEVENTMSG, thread, 0, ctypes.addressof(message))
            self._meet(message.value, self._of_thread.get(thread), event != _CLONE)
            if event == _VFORK and message.value not in self._executed:
                self._vforked.add(message.value)
        elif event == _EXEC:
            self._vforked.discard(thread)
            self._leaderless.discard(thread)
            self._executed.add(thread)
            if thread in self.processes:
                self.processes[thread]["peak_bytes"] = None  # a mark of an image that is gone
        elif event == _EXIT:
            self._exits(thread)
        elif event == _STOP:
            request = _PTRACE_LISTEN if number in _GROUP_STOPS else _PTRACE_CONT
        elif not event:
            deliver = number
        _ptrace(request, thread, 0, deliver)

    def _exits(self, thread: int) -> None:
        """Read the mark at the exit of a process's first thread, and of those that it left behind."""
        pid = self._of_thread.get(thread)
        if pid == thread:
            self._leaderless.add(thread)
        if pid in self._leaderless:
            self._read(thread)

    def ended(self, thread: int, maxrss_kib: int) -> None:
        """Note that a thread was reaped."""
        self._of_thread.pop(thread, None)
        record = self.processes.get(thread)
        if record is not None and record["end_s"] is None:
            record["end_s"] = time.monotonic()
            record["maxrss_bytes"] = maxrss_kib * 1024
            record["own"] = thread not in self._vforked
            self._vforked.discard(thread)

    @property
    def stopped_s(self) -> float:
        """About how long threads stood still for this process: its own time, and the switches to it."""
        return time.process_time() - self._began_s + self._stops * _SWITCH_S

    def leave(self) -> list[dict[str, Any]]:
        """Read those that live on and return the records; the kernel lets go of them when this process ends."""
        for pid, record in self.processes.items():
            if record["end_s"] is None:
                self._read(pid)
        return [*self._earlier, *self.processes.values()]


def _become(order: dict[str, Any], go: int, says: int) -> None:
    """Be the child: take on what was ordered, wait, and execute the command."""
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
        os.write(says, b"%d" % (_high_water_bytes(_status(os.getpid())) or 0))
        os.close(says)
        os.read(go, 1)
        os.execvp(order["argv"][0], order["argv"])
    except BaseException as error:
        os.write(2, f"{order['argv'][0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _wait(child: int, tracer: Tracer) -> tuple[int, Any]:
    """Return the status of the child and its resource usage, when it has ended."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, _WALL)
        except InterruptedError:
            continue
        if os.WIFSTOPPED(status):
            try:
                tracer.stopped(pid, status)
            except OSError as error:
                if error.errno != errno.ESRCH:  # killed while it was stopped: its end is the next that is told
                    raise
            continue
        tracer.ended(pid, usage.ru_maxrss)
        if pid == child:
            return status, usage


def _say(line: dict[str, Any]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


def _give_up(group: int) -> None:
    """End the command when who ordered it is gone."""
    os.killpg(group, signal.SIGKILL)
    os._exit(1)


def follow(pid: int) -> int:
    """Follow a process that another one started to its end, and say the same of it; it is not ended with this one."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    tracer = Tracer()
    try:
        tracer.seize(pid)
    except OSError as error:
        _say({"reason": str(error)})
        return 1
    _say({"reason": None})
    _wait(pid, tracer)
    _say({"processes": tracer.leave(), "stopped_s": tracer.stopped_s})
    return 0


def main(order: dict[str, Any]) -> int:
    """Start what is ordered, say its number, wait for its end and say how that was."""
    parent = os.getppid()
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    said, says = os.pipe()
    go, start = os.pipe()
    child = os.fork()
    if not child:
        _become(order, go, says)
    os.close(says)
    signal.signal(signal.SIGTERM, lambda *_: _give_up(child))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
    tracer, reason = Tracer(), None
    floor = os.read(said, 64)
    if order["trace"]:
        try:
            tracer.seize(child)
        except OSError as error:
            reason = f"the command cannot be traced: {error}"
    _say({"pid": child, "floor_bytes": int(floor or b"0") or None})
    os.write(start, b"1")
    status, usage = _wait(child, tracer)
    ended_s = time.monotonic()
    _say({"ended_s": ended_s, "status": status, "maxrss_bytes": usage.ru_maxrss * 1024,
          "cpu_s": usage.ru_utime + usage.ru_stime, "processes": tracer.leave(),
          "stopped_s": tracer.stopped_s if order["trace"] else None, "reason": reason})  # fmt: skip
    return 0


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    sys.exit(follow(given["follow"]) if "follow" in given else main(given))
