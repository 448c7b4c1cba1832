"""Calls that each run in a fresh process, forked from this one.

Nothing of an earlier call is in that process, and its high-water mark begins at the size of this one. The caller may
die at any time: its end of the connection is then closed, and the call, with all processes in its group, is killed.
"""

from __future__ import annotations

import pickle
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, replace
from typing import NamedTuple

from runmem.deaths import Cause, Death, growth_of
from runmem.memory.causes_of_death import death_by_exit, death_by_signal
from runmem.memory.kernel_kills import KernelKills
from runmem.memory.peak import process_meter
from runmem.memory.process import node_free_bytes, resident_bytes_of
from runmem.worker.children_probe import ENDED_CHILDREN, ended_children
from runmem.worker.isolation import messages
from runmem.worker.isolation.forked_process import ForkedProcess, describe_exit
from runmem.worker.isolation.time_limit import time_is_up
from runmem.worker.probe import peak_fields
from runmem.worker.record_fields import take_record_fields

__all__ = ["GIVEN_UP", "CallEnd", "FreshProcesses", "Measured"]

_SHORT_S = 0.1
_CHECK_S = 0.2  # of memory, and of exits: a process that died may have left its connection to one that it had started
_EXIT_POLL_S = 0.005  # after the connection was closed
_MEMORY_SHARE = 0.95  # of its limit; a process that uses more is ended, as Dask ends a worker
_READ_S = 0.1  # at most so often, also while it sends much
_MOST_READINGS = 10  # those of the last second
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024

GIVEN_UP = "the program has given up this call"
"""Why a call was ended that nobody wants any more."""


class CallEnd(NamedTuple):
    """The end of a call in a fresh process.

    Attributes
    ----------
    pid : int
        The process; 0 if there was none.
    result : bytes or None
        Pickle of the function's result; None if the process died.
    cause : str or None
        Why the process died; None if it did not.
    timed_out : bool
        Whether that was because the time of the call was up.
    fields : dict
        Fields of the call's record, if its process died: the peak and processor time at its death.
    """

    pid: int
    result: bytes | None = None
    cause: str | None = None
    timed_out: bool = False
    fields: dict[str, object] = {}


class _LastReadings:
    """The last readings of a process while it runs a call, and of the node's free memory."""

    def __init__(self) -> None:
        self._times_s: list[float] = []
        self._sizes: list[int] = []
        self._free_bytes = node_free_bytes()

    def read(self, pid: int) -> int | None:
        """Return the size of the process, read now or just before; None: it cannot be read."""
        now_s = time.monotonic()
        if not self._times_s or now_s - self._times_s[-1] >= _READ_S:
            size_bytes = resident_bytes_of(pid)
            if not size_bytes:  # it has ended
                return None
            self._times_s = [*self._times_s[-_MOST_READINGS:], now_s]
            self._sizes = [*self._sizes[-_MOST_READINGS:], size_bytes]
            self._free_bytes = node_free_bytes()
        return self._sizes[-1]

    def complete(self, death: Death) -> Death:
        """Return a death with what they say, and why the rest is not known."""
        growth = growth_of(self._times_s, self._sizes)
        missing = [] if death.missing is None else [death.missing]
        if growth is None:
            missing.append(f"its growth is not known: {len(self._sizes)} readings were made while it ran")
        if self._free_bytes is None:
            missing.append("this system does not say how much memory is free")
        return replace(
            death,
            growth_bytes_per_s=growth,
            node_free_bytes=self._free_bytes,
            missing="; ".join(missing) or None,
        )


class FreshProcesses:
    """Runs one call at a time, each in a process of its own.

    Parameters
    ----------
    caller : socket
        Connection to the process that wants the calls. A call is ended when this has something to be read, or has lost
        its other side.
    function : callable
        Takes a call, as bytes, in the forked process, and returns what can be pickled.
    reuses : bool
        Whether a process runs all calls until it dies, in place of one.
    memory_limit_bytes : int, optional
        Memory that a process may use; checked now and then.

    Assumption: this process has one thread only.
    """

    def __init__(
        self, caller: socket.socket, function: Callable[[bytes], object], reuses: bool = False,
        memory_limit_bytes: int | None = None,
    ) -> None:  # fmt: skip
        self._caller = caller
        self._function = function
        self._reuses = reuses
        self._limit_bytes = memory_limit_bytes
        self._next: ForkedProcess | None = None
        self._ended: ForkedProcess | None = None  # it has reported its result and is not reaped yet
        self._is_short = False
        self._kills = KernelKills()
        self._last = _LastReadings()

    def run(self, call: bytes, limit_s: float | None = None) -> CallEnd:
        """Run a call for at most `limit_s` seconds, and as long as the caller wants it.

        After a short call, the process of the next one is forked while a call runs.
        """
        began = time.monotonic()
        process, self._next = self._next or self._forked(), None
        base_bytes = resident_bytes_of(process.pid)
        self._last = _LastReadings()
        report: bytes | None = None
        cause: str | None = None
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # it was killed meanwhile: found below
                process.send(call)
            if self._is_short and not self._reuses:
                self._reap_ended()
                self._next = self._forked(process.connection)
            report, cause = self._wait(process, None if limit_s is None else began + limit_s, limit_s or 0.0)
        finally:
            self._reap_ended()
            if report is not None and self._reuses:
                self._next = process
            else:
                process.kill_group()
                if report is not None:
                    self._ended = process
                else:
                    code, usage = process.reap()
        self._is_short = time.monotonic() - began < _SHORT_S
        if report is not None:
            return CallEnd(process.pid, report)
        timed_out = limit_s is not None and cause == time_is_up(limit_s)
        death = self._death_by_us(cause, timed_out) if cause else self._death(code)
        death = self._last.complete(death)
        return CallEnd(process.pid, None, death.words, timed_out, _fields_at_death(usage, death, base_bytes))

    def _wait(self, process: ForkedProcess, deadline: float | None, limit_s: float) -> tuple[bytes | None, str | None]:
        """Wait until a process has reported its result, or is to be ended, or has exited.

        Return the report, and the reason to end the process; (None, None): it has exited.
        """
        while True:
            left_s = float("inf") if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                return None, time_is_up(limit_s)
            talking = [process.connection] if process.is_connected else []
            ready = messages.readable([self._caller, *talking], min(left_s, _CHECK_S if talking else _EXIT_POLL_S))
            if self._caller in ready:
                return None, GIVEN_UP  # the caller sends nothing while a call runs
            has_exited = not (ready and process.is_connected) and process.has_exited()
            if reports := process.received():
                return reports[0], None
            if has_exited:
                return None, None
            size_bytes = self._last.read(process.pid)
            if self._limit_bytes and (size_bytes or 0) > _MEMORY_SHARE * self._limit_bytes:
                return None, f"its process used more than {_MEMORY_SHARE * 100:.0f} % of its memory limit"

    def _death_by_us(self, words: str, timed_out: bool) -> Death:
        """Return the death of a process that was ended here, for this reason."""
        if timed_out:
            return Death(Cause.TIME_LIMIT, words)
        if words == GIVEN_UP or self._limit_bytes is None:
            return Death(Cause.SIGKILL, words, signal.SIGKILL)
        proved = round(_MEMORY_SHARE * self._limit_bytes)
        owner = "runmem, which gives the process of a call what its worker may use (--worker_memory)"
        return Death(Cause.NANNY_LIMIT, words, limit_bytes=self._limit_bytes, limit_owner=owner, at_least_bytes=proved)

    def _death(self, code: int) -> Death:
        """Return the death of a process that has exited."""
        what = "its process"
        if code >= 0:
            return replace(death_by_exit(code, what), words=describe_exit(code))
        death = death_by_signal(-code, self._kills, what)
        return death if death.is_for_memory else replace(death, words=describe_exit(code))

    def _forked(self, *others: socket.socket) -> ForkedProcess:
        return ForkedProcess(self._serve, [self._caller, *others], dies_with_parent=True)

    def _serve(self, connection: socket.socket) -> None:
        """Run calls, in the forked process."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        identity = messages.identity(connection)
        while True:
            result = self._function(messages.receive(connection))
            if not self._reuses:
                for thread in threading.enumerate():
                    if thread is not threading.current_thread() and not thread.daemon:
                        thread.join()
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            if messages.identity(connection) != identity:
                raise OSError("the call has closed all files of its process, which cannot report its result")
            messages.send(connection, pickle.dumps(result, pickle.HIGHEST_PROTOCOL))
            del result

    def drop_next(self) -> None:
        """End the process that waits for the next call, if there is one."""
        if self._next is not None:
            self._next.kill_group()
            self._next.reap()
            self._next = None

    def close(self) -> None:
        """End all processes."""
        self._reap_ended()
        self.drop_next()

    def _reap_ended(self) -> None:
        process, self._ended = self._ended, None
        if process is not None:
            process.reap()


class Measured(AbstractContextManager[None]):
    """A block whose memory and processor time, with what it sets itself, are put into fields of a record.

    The processor time includes that of the processes that it has waited for. Not a `contextmanager`, which sets
    attributes of an exception.
    """

    def __init__(self, fields: dict[str, object]) -> None:
        self._fields = fields

    def __enter__(self) -> None:
        self._window = process_meter().start()

    def __exit__(self, *raised: object) -> None:
        reading = process_meter().stop(self._window)
        own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        self._fields.update(peak_fields(reading), cpu_s=cpu_s, **take_record_fields())
        if (ended := ended_children()).faults:
            self._fields[ENDED_CHILDREN] = ended.peak_bytes


def _fields_at_death(usage: resource.struct_rusage, death: Death, base_bytes: int | None) -> dict[str, object]:
    """Return the fields of the record of a call whose process died."""
    peak = usage.ru_maxrss * _MAXRSS_UNIT  # the kernel's mark: complete unless the call itself has reset it
    return {
        "status": "killed", "reason": death.words, "death": asdict(death), "base_bytes": base_bytes, "peak_bytes": peak,
        "end_bytes": None,
        "method": "sampled", "shared": False, "lifetime_peak_bytes": peak, "last_bytes": None,
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }  # fmt: skip
