"""`local`: a process of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from runmem.reading import JsonObject
from runmem.trials.methods.contract import Method
from runmem.trials.outcome import CommandOutcome, ProcessEnd, Site, exit_code_of
from runmem.trials.starts.contract import Start, StartError
from runmem.trials.starts.follower import start_launcher

__all__ = ["Local"]

_START_TIMEOUT_S = 30.0
_INTERRUPT_TIMEOUT_S = 5.0
# A shell that writes its process id, waits until every method is ready, and then executes the command in its place.
_WAIT_AT_BARRIER = ["/bin/sh", "-c", 'echo $$ >"$0" && read -r go <"$1" && shift && exec "$@"']


class Local(Start):
    """Start the command through a small process (`runmem.trials.launcher`), in a process group of its own."""

    name = "local"

    def run(self, command: Sequence[str], methods: Sequence[Method], site: Site) -> CommandOutcome:
        reasons: dict[str, str] = {}
        barrier = _Barrier(site.folder)
        argv = barrier.around(command)
        groups = []
        for method in methods:
            argv = method.wrap(argv)
            if (group := method.group()) is not None:
                groups.append(str(group))
        order = {
            "argv": argv,
            "stdout": str(site.stdout),
            "stderr": str(site.stderr),
            "cpus": list(site.cpus),
            "groups": groups,
            "trace": any(method.traces for method in methods),
        }
        launcher = start_launcher(order)
        first: JsonObject = {}
        try:
            assert launcher.stdout is not None
            first = json.loads(launcher.stdout.readline() or "{}")
            pid = barrier.wait(launcher)
            self.watch(methods, pid, reasons)
            released_s = time.monotonic()
            barrier.open()
            last = json.loads(launcher.stdout.readline() or "{}")
        except BaseException:
            _end(launcher, first.get("pid"))
            raise
        launcher.wait()
        if "status" not in last:
            raise StartError(f"the process that started the command failed: {_failure(launcher)}")
        if last["reason"] is not None:
            reasons.update({method.name: last["reason"] for method in methods if method.traces})
        _close(launcher)
        return _outcome(first, last, pid, released_s, reasons)


class _Barrier:
    """Two named pipes: the command's process writes its id into one, and starts when it can read from the other."""

    def __init__(self, folder: Path) -> None:
        self._arrivals = folder / "barrier-pid"
        self._go = folder / "barrier-go"
        for path in (self._arrivals, self._go):
            os.mkfifo(path, 0o600)

    def around(self, command: Sequence[str]) -> list[str]:
        return [*_WAIT_AT_BARRIER, str(self._arrivals), str(self._go), *command]

    def wait(self, launcher: subprocess.Popen[str]) -> int:
        """Wait for the process and return its id."""
        descriptor = os.open(self._arrivals, os.O_RDONLY | os.O_NONBLOCK)
        try:
            end_s = time.monotonic() + _START_TIMEOUT_S
            while time.monotonic() < end_s:
                if select.select([descriptor], [], [], 0.02)[0]:
                    text = os.read(descriptor, 64)
                    if text.endswith(b"\n"):
                        return int(text)
                    time.sleep(0.001)  # the process has not opened the pipe yet
                if launcher.poll() is not None:
                    break
        finally:
            os.close(descriptor)
        raise StartError(f"the command did not start: {_failure(launcher)}")

    def open(self) -> None:
        descriptor = os.open(self._go, os.O_WRONLY)
        os.write(descriptor, b"go\n")
        os.close(descriptor)


def _failure(launcher: subprocess.Popen[str]) -> str:
    """Return the launcher's last message."""
    try:
        _, message = launcher.communicate(timeout=1)
    except subprocess.TimeoutExpired:
        return f"it has not answered within {_START_TIMEOUT_S:.0f} s"
    lines = message.strip().splitlines()
    return lines[-1] if lines else f"its process ended with code {launcher.returncode}"


def _close(launcher: subprocess.Popen[str]) -> None:
    for stream in (launcher.stdout, launcher.stderr):
        if stream is not None:
            stream.close()


def _end(launcher: subprocess.Popen[str], group: int | None) -> None:
    """End the command and its process group, by SIGINT, SIGTERM and SIGKILL in turn."""
    for number, patience_s in ((signal.SIGINT, _INTERRUPT_TIMEOUT_S), (signal.SIGTERM, 1.0), (signal.SIGKILL, 1.0)):
        if group is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            launcher.wait(patience_s)
            break
    if group is not None:  # processes that ignored the signals, such as background commands of a shell
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    launcher.terminate()
    launcher.wait()
    _close(launcher)


def _outcome(
    first: JsonObject, last: JsonObject, pid: int, released_s: float, reasons: dict[str, str]
) -> CommandOutcome:
    processes = {each["pid"]: each for each in last["processes"]}
    wrappers = _ancestors(pid, processes)
    ended_s = (processes.get(pid) or {}).get("end_s") or last["ended_s"]
    return CommandOutcome(
        exit_code=exit_code_of(os.waitstatus_to_exitcode(last["status"])),
        wall_s=ended_s - released_s,
        pid=pid,
        processes=ProcessEnd.from_launcher(each for each in last["processes"] if each["pid"] not in wrappers),
        maxrss_bytes=last["maxrss_bytes"],
        floor_bytes=first["floor_bytes"],
        cpu_s=last["cpu_s"],
        reasons=reasons,
        stopped_s=last["stopped_s"],
    )


def _ancestors(pid: int, processes: dict[int, JsonObject]) -> set[int]:
    """Return the processes that wrap the command."""
    found: set[int] = set()
    while pid in processes and processes[pid]["parent"] not in found:
        pid = processes[pid]["parent"]
        found.add(pid)
    return found
