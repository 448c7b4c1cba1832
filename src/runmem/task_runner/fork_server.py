"""A process without threads that runs each target in a child of its own.

A Dask worker has threads, so it must not be forked. It starts this process instead, which loads the runner and the
modules of its task once; after that a fresh process for a target costs a fork. Nothing of an earlier target is in it,
and its high-water mark starts at the size of this process.

The parent may die at any time: its end of the connection is then closed, and the target, with all processes in its
group, is killed.
"""

from __future__ import annotations

import gc
import logging
import os
import pickle
import resource
import select
import signal
import struct
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from runmem.execution.task_error import PackedError
from runmem.memory.peak import process_meter
from runmem.task_runner.implicit_threading import disableImplicitThreading

__all__ = ["Outcome", "ServerSetup", "main", "call_runner"]

_LENGTH = struct.Struct("<Q")
_CHUNK_BYTES = 1 << 20
_PR_SET_PDEATHSIG = 1
_IDLE_S = 60.0  # then a server ends: a cluster may outlive the run by days
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class ServerSetup:
    """What a server needs before the first target: the pickled runner, folders to import from, levels of loggers."""

    runner: bytes
    import_paths: list[str]
    log_levels: dict[str, int]


@dataclass
class Outcome:
    """How a target ended.

    Attributes
    ----------
    value : bytes or None
        Pickle of what the runner returned; None if it raised or died.
    raised : PackedError or None
        What it raised.
    failures : list of (target, error)
        What the runner noted.
    killed : str or None
        Why its process died, if it did.
    fields : dict
        For the record of the target: peak, base, processor time, and how the peak was obtained.
    """

    pid: int
    value: bytes | None = None
    raised: PackedError | None = None
    failures: list[tuple[str, str]] = field(default_factory=list)
    killed: str | None = None
    timed_out: bool = False
    fields: dict[str, Any] = field(default_factory=dict)


def call_runner(runner: Any, target: Any) -> Outcome:
    """Run a target in this process."""
    outcome = Outcome(os.getpid())
    runner.failures = []
    try:
        value = runner(target)
        try:
            outcome.value = cloudpickle.dumps(value)
        except Exception as error:
            raise TypeError(
                f"what the target returned cannot be pickled ({type(error).__name__}: {error}): return the data that "
                "it is made from"
            ) from error
    except BaseException as error:  # also SystemExit and KeyboardInterrupt: they end this target only
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            from runmem.task_runner.errors import TargetError

            error = TargetError(f"the target called for an exit: {error!r}")
        outcome.raised = PackedError.of(error)
    outcome.failures = [(failure.target, failure.error) for failure in runner.failures]
    return outcome


def main(descriptor: int) -> None:
    """Serve the worker at the other end of a connection until it closes it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    connection = Connection(descriptor)
    disableImplicitThreading()  # before the task's modules load their libraries
    try:
        setup: ServerSetup = pickle.loads(connection.recv_bytes())
        sys.path[:] = setup.import_paths
        try:
            runner = pickle.loads(setup.runner)
            ready = b""
        except Exception as error:
            ready = pickle.dumps(f"{type(error).__name__}: {error}")
        connection.send_bytes(ready)
        if ready:
            return
        disableImplicitThreading()  # also of what was loaded meanwhile
        _set_logging(setup.log_levels)
        gc.collect()
        gc.freeze()  # so that a collection in a child does not copy the pages of what is shared
        children = _Children(connection)
        while connection.poll(_IDLE_S):
            target, timeout_s = pickle.loads(connection.recv_bytes())
            connection.send_bytes(pickle.dumps(children.run(runner, target, timeout_s)))
    except (EOFError, ConnectionError):
        return


def _set_logging(levels: dict[str, int]) -> None:
    logging.basicConfig(stream=sys.stderr, format="%(name)s %(levelname)s: %(message)s")
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)


class _Children:
    """Runs one child at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # `select` is then woken through the pipe
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def run(self, runner: Any, target: bytes, timeout_s: float | None) -> Outcome:
        """Run one target in a child and return how it ended. Raises EOFError if the worker is gone."""
        reader, writer = os.pipe()
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            self._be_child(server, writer, runner, target)
        with suppress(OSError):  # done by both: whoever is first
            os.setpgid(pid, pid)
        os.close(writer)
        os.set_blocking(reader, False)
        try:
            data, timed_out = self._follow(pid, reader, timeout_s)
        finally:
            os.close(reader)
            status, usage = _end(pid)
        return _outcome(pid, data, status, usage, timeout_s if timed_out else None)

    def _be_child(self, server: int, writer: int, runner: Any, target: bytes) -> None:
        code = 1
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            _die_with_parent()
            if os.getppid() != server:
                os._exit(1)
            for descriptor in (self._wake, self._waker, self._connection.fileno()):
                os.close(descriptor)
            window = process_meter().start()
            outcome = call_runner(runner, pickle.loads(target))
            for thread in threading.enumerate():
                if thread is not threading.current_thread() and not thread.daemon:
                    thread.join()
            reading = process_meter().stop(window)
            outcome.fields = {
                "base_bytes": reading.base_bytes,
                "peak_bytes": reading.peak_bytes,
                "end_bytes": reading.end_bytes,
                "method": reading.method,
                "shared": reading.shared,
                "lifetime_peak_bytes": reading.lifetime_peak_bytes,
                "reason": reading.reason,
            }
            if children := resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss:
                outcome.fields["children_peak_bytes"] = children * _MAXRSS_UNIT
            data = pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
            _write_all(writer, _LENGTH.pack(len(data)) + data)
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)

    def _follow(self, pid: int, reader: int, timeout_s: float | None) -> tuple[bytes, bool]:
        """Read what the child sends until it has ended; return it, and whether its time was up."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        parts: list[bytes] = []
        sources = [reader, self._wake, self._connection.fileno()]
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return b"".join(parts), True
            ready, _, _ = select.select(sources, [], [], left)
            if self._connection.fileno() in ready:
                raise EOFError  # the worker sends nothing while a target runs: it is gone
            if reader in ready and not _drain(reader, parts):
                sources.remove(reader)
            if self._wake in ready:
                _drain(self._wake, [])
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                _drain(reader, parts)
                return b"".join(parts), False


def _die_with_parent() -> None:
    """Let the kernel (Linux) kill this process when its parent dies, which has one thread only."""
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _drain(descriptor: int, parts: list[bytes]) -> bool:
    """Take all that can be read now; return whether more may come."""
    while True:
        try:
            data = os.read(descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        parts.append(data)


def _end(pid: int) -> tuple[int, Any]:
    """Kill what is left of the child's process group, and reap the child."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # while the child is not reaped its number cannot be another's
    _, status, usage = os.wait4(pid, 0)
    return status, usage


def _outcome(pid: int, data: bytes, status: int, usage: Any, timeout_s: float | None) -> Outcome:
    outcome: Outcome | None = None
    if timeout_s is None and len(data) >= _LENGTH.size and len(data) == _LENGTH.size + _LENGTH.unpack_from(data)[0]:
        outcome = pickle.loads(data[_LENGTH.size :])
        assert outcome is not None
    else:
        code = os.waitstatus_to_exitcode(status)
        outcome = Outcome(pid)
        outcome.timed_out = timeout_s is not None
        outcome.killed = f"its time of {timeout_s:g} s was up" if timeout_s is not None else _how_it_died(code)
        # The kernel's mark at the death: complete unless something in the target had reset it meanwhile.
        peak = usage.ru_maxrss * _MAXRSS_UNIT
        outcome.fields = {
            "base_bytes": None, "peak_bytes": peak, "end_bytes": None, "method": "sampled", "shared": False,
            "lifetime_peak_bytes": peak, "last_bytes": None, "reason": outcome.killed,
        }  # fmt: skip
    # Of the child and of all processes that it has waited for.
    outcome.fields["cpu_s"] = usage.ru_utime + usage.ru_stime
    return outcome


def _how_it_died(code: int) -> str:
    if code >= 0:
        return f"its process ended by itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"its process was killed by {name}"
