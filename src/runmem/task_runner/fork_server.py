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
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from runmem.memory.lsst_timer import correct_lsst_timer
from runmem.memory.peak import PeakReading, process_meter
from runmem.serialization import pickling
from runmem.serialization.error_parts import field_of
from runmem.serialization.task_error import PackedError, add_note, traceback_text
from runmem.shadowed import Shadowing, shadow
from runmem.store.node_name import node_name
from runmem.task_runner import messages
from runmem.task_runner.data_ids import described
from runmem.task_runner.errors import exit_error
from runmem.task_runner.failures import TargetFailure
from runmem.task_runner.implicit_threading import disableImplicitThreading
from runmem.worker.probe import peak_fields

if TYPE_CHECKING:  # and imported where it is made: processes of the local pool need none
    from multiprocessing.connection import Connection

__all__ = [
    "Children",
    "Outcome",
    "ServerSetup",
    "call_runner",
    "die_with_parent",
    "has_exited",
    "how_it_died",
    "main",
    "set_logging",
]

_PR_SET_PDEATHSIG = 1
_SHORT_S = 0.1
_LONGEST_WAIT_S = 86_400.0  # `select` takes no more than the clock has
_IDLE_S = 60.0  # then a server ends: a cluster may outlive the run by days
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


class ServerSetup(NamedTuple):
    """What a server needs before the first target.

    Attributes
    ----------
    runner : bytes
        The pickled runner.
    import_paths : list of str
        Folders to import from.
    log_levels : dict
        Levels of loggers.
    classes : bytes
        Pickle of the program's own classes by name, where the runner's pickle looks for them in ``__main__``: that of
        a configuration of LSST is a text that does. Empty: there is no such.
    shadowing : Shadowing or None
        Modules of the program that have the names of libraries, if it has some.
    """

    runner: bytes
    import_paths: list[str]
    log_levels: dict[str, int]
    classes: bytes = b""
    shadowing: Shadowing | None = None

    def load_runner(self) -> Any:
        """Return the runner."""
        if self.classes:
            vars(sys.modules["__main__"]).update(pickle.loads(self.classes))
        return pickle.loads(self.runner)


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
            outcome.value = _pickled(value)
        except Exception as error:
            raise TypeError(
                f"what the target returned cannot be pickled ({type(error).__name__}: {error}): return the data that "
                "it is made from"
            ) from error
    except (SystemExit, KeyboardInterrupt) as request:  # ends this target only
        exited = exit_error(request)
        if runner.doRaise:
            outcome.raised = _packed(exited, request, target)
        else:
            runner.failures.append(TargetFailure(described(target), f"{type(exited).__name__}: {exited}"))
    except BaseException as error:
        outcome.raised = _packed(error, error, target)
    outcome.failures = [(failure.target, failure.error) for failure in runner.failures]
    return outcome


def _packed(error: BaseException, raised: BaseException, target: Any) -> PackedError:
    """Pack what a target has raised, with a note of where that was."""
    trace = traceback_text(raised, field_of(raised, "__traceback__"))
    add_note(
        error,
        f"raised by the target {described(target)} on node {node_name()}, process {os.getpid()}\n"
        f"traceback there:\n{trace}",
    )
    return PackedError.of(error)


def _pickled(value: Any) -> bytes:
    """Return the pickle of a result; by value what the program itself defines."""
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return pickling.dumps(value)


def main(descriptor: int) -> None:
    """Serve the worker at the other end of a connection until it closes it."""
    from multiprocessing.connection import Connection

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    connection = Connection(descriptor)
    disableImplicitThreading()  # before the task's modules load their libraries
    try:
        setup: ServerSetup = pickle.loads(connection.recv_bytes())
        shadow(setup.shadowing)
        sys.path[:] = setup.import_paths
        correct_lsst_timer()
        try:
            runner = setup.load_runner()
            ready = b""
        except Exception as error:
            ready = pickle.dumps(f"{type(error).__name__}: {error}")
        connection.send_bytes(ready)
        if ready:
            return
        disableImplicitThreading()  # also of what was loaded meanwhile
        set_logging(setup.log_levels)
        gc.collect()
        gc.freeze()  # so that a collection in a child does not copy the pages of what is shared
        _serve(connection, Children(connection, runner))
    except (EOFError, ConnectionError):
        return


def _serve(connection: Connection, children: Children) -> None:
    """Run targets until none has come for a while, or (EOFError) the worker is gone."""
    try:
        while connection.poll(_IDLE_S):
            target, timeout_s = pickle.loads(connection.recv_bytes())
            outcome = children.run(target, timeout_s)
            connection.send_bytes(pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL))
    finally:
        children.end()


def set_logging(levels: dict[str, int]) -> None:
    """Let loggers write to standard error from these levels on."""
    logging.basicConfig(stream=sys.stderr, format="%(name)s %(levelname)s: %(message)s")
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)


class _Child(NamedTuple):
    """A forked process that waits for its target, or runs it: its number, and our ends of the pipes to and from it."""

    pid: int
    give: int
    take: int


class Children:
    """Runs one target at a time, each in a child of its own.

    Parameters
    ----------
    connection : Connection or socket
        To who wants the targets: closed, or with something to be read, the target that runs is ended.
    runner : TaskRunner

    Assumption: the process has no thread beside the one that calls.
    """

    def __init__(self, connection: Connection | socket.socket, runner: Any) -> None:
        self._connection = connection
        self._runner = runner
        self._ahead: _Child | None = None
        self._is_short = False
        self._ended: int | None = None  # a child that told its outcome and is not reaped yet
        self._die_with_parent = die_with_parent()
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # `select` is then woken through the pipe
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def run(self, target: bytes, timeout_s: float | None) -> Outcome:
        """Run one target in a child and return how it ended. Raises EOFError if the worker is gone.

        After one that was over soon the fork for the next is made while a target runs.
        """
        began = time.monotonic()
        try:
            return self._run(target, timeout_s)
        finally:
            self._is_short = time.monotonic() - began < _SHORT_S

    def _run(self, target: bytes, timeout_s: float | None) -> Outcome:
        child, self._ahead = self._ahead or self._fork(), None
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        told = False
        try:
            with suppress(BrokenPipeError):  # it was killed meanwhile: seen by what follows
                messages.send(child.give, target)
            os.close(child.give)
            if self._is_short:
                self._reap_ended()
                self._ahead = self._fork(child.take)
            data, timed_out = self._follow(child, deadline)
            told = not timed_out and messages.is_whole(data)
        finally:
            os.close(child.take)
            self._reap_ended()
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)  # until it is reaped its number cannot be another's
            if told:
                self._ended = child.pid
            else:
                _, status, usage = os.wait4(child.pid, 0)
        if told:
            outcome: Outcome = pickle.loads(messages.content(data))
            return outcome
        return _killed(child.pid, status, usage, timeout_s if timed_out else None)

    def end(self) -> None:
        """Leave no child behind."""
        self._reap_ended()
        if self._ahead is not None:
            os.kill(self._ahead.pid, signal.SIGKILL)
            os.waitpid(self._ahead.pid, 0)

    def _reap_ended(self) -> None:
        pid, self._ended = self._ended, None
        if pid is not None:
            os.waitpid(pid, 0)

    def _fork(self, *foreign: int) -> _Child:
        """Fork a child that waits for its target; `foreign` are descriptors that are not its own."""
        its_target, give = os.pipe()
        take, its_outcome = os.pipe()
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            for descriptor in (give, take, self._wake, self._waker, self._connection.fileno(), *foreign):
                os.close(descriptor)
            self._be_child(server, its_target, its_outcome)
        with suppress(OSError):  # done by both: whoever is first
            os.setpgid(pid, pid)
        os.close(its_target)
        os.close(its_outcome)
        os.set_blocking(take, False)
        return _Child(pid, give, take)

    def _be_child(self, server: int, its_target: int, its_outcome: int) -> None:
        code = 1
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._die_with_parent()
            if os.getppid() != server:
                os._exit(1)
            target = messages.receive(its_target)
            if target is None:
                os._exit(1)
            os.close(its_target)
            connection = messages.identity(its_outcome)
            meter = process_meter()
            window = meter.start()
            outcome = call_runner(self._runner, pickle.loads(target))
            for thread in threading.enumerate():
                if thread is not threading.current_thread() and not thread.daemon:
                    thread.join()
            outcome.fields = _measured(meter.stop(window))
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            if messages.identity(its_outcome) != connection:
                raise OSError("the target has closed all files of its process, which cannot tell how it ended")
            messages.send(its_outcome, pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL))
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)

    def _follow(self, child: _Child, deadline: float | None) -> tuple[bytes, bool]:
        """Read what the child sends until that is whole or the child has ended; return it, and whether time was up."""
        data = bytearray()
        sources = [child.take, self._wake, self._connection.fileno()]
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return bytes(data), True
            ready, _, _ = select.select(sources, [], [], None if left is None else min(left, _LONGEST_WAIT_S))
            if self._connection.fileno() in ready:
                raise EOFError  # the worker sends nothing while a target runs: it is gone
            if child.take in ready:
                if not messages.drain(child.take, data):
                    sources.remove(child.take)
                if messages.is_whole(data):
                    return bytes(data), False
            if self._wake in ready:
                messages.drain(self._wake, bytearray())
            if has_exited(child.pid):
                messages.drain(child.take, data)
                return bytes(data), False


def has_exited(pid: int) -> bool:
    """Tell whether a child has exited, and leave it to be waited for."""
    if hasattr(os, "waitid"):
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    import psutil  # macOS, before Python 3.13

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def die_with_parent() -> Callable[[], object]:
    """Return what lets the kernel (Linux) kill the calling process when its parent dies, which has one thread only."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    import ctypes

    return partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _measured(reading: PeakReading) -> dict[str, Any]:
    """Return the fields of the record; processor time with that of the processes that it has waited for."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    fields: dict[str, Any] = {
        **peak_fields(reading),
        "cpu_s": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
    }
    if children.ru_maxrss:
        fields["children_peak_bytes"] = children.ru_maxrss * _MAXRSS_UNIT
    return fields


def _killed(pid: int, status: int, usage: Any, timeout_s: float | None) -> Outcome:
    """Return the outcome of a target whose process told none."""
    if timeout_s is None:
        reason = how_it_died(os.waitstatus_to_exitcode(status))
    else:
        reason = f"its time of {timeout_s:g} s was up"
    # The kernel's mark at the death: complete unless something in the target had reset it meanwhile.
    peak = usage.ru_maxrss * _MAXRSS_UNIT
    fields = {
        "base_bytes": None, "peak_bytes": peak, "end_bytes": None, "method": "sampled", "shared": False,
        "lifetime_peak_bytes": peak, "last_bytes": None, "reason": reason, "cpu_s": usage.ru_utime + usage.ru_stime,
    }  # fmt: skip
    return Outcome(pid, killed=reason, timed_out=timeout_s is not None, fields=fields)


def how_it_died(code: int) -> str:
    if code >= 0:
        return f"its process ended by itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"its process was killed by {name}"
