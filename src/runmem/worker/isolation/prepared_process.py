"""Fresh processes for the calls of a process with threads, which must not be forked itself.

It starts a process without threads, which loads what the calls need once; after that a fresh process costs a fork.
"""

from __future__ import annotations

import gc
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from runmem.errors import RunmemError
from runmem.store.node_name import node_name
from runmem.worker.isolation import messages
from runmem.worker.isolation.fresh_process import GIVEN_UP, Ended, FreshProcesses

__all__ = ["Preparation", "PreparedProcesses", "main"]

_START = "import sys; from runmem.worker.isolation.prepared_process import main; main(int(sys.argv[1]))"
_WANTED_CHECK_S = 0.1  # how often a caller is asked whether it still wants its call


class Preparation(Protocol):
    """Makes a process ready for calls, and runs them in processes forked from it. Can be pickled."""

    def begin(self) -> None:
        """Make the process ready for calls of any task."""

    def load(self, task: bytes) -> None:
        """Make the process ready for calls of a task."""

    def run(self, call: bytes) -> object:
        """Run a call, in a fresh process."""


class PreparedProcesses:
    """Runs calls in fresh processes; may be used by several threads at a time.

    Parameters
    ----------
    preparation : Preparation
    """

    def __init__(self, preparation: Preparation) -> None:
        self._preparation = pickle.dumps(preparation)
        self._idle: list[_PreparedProcess] = []
        self._lock = threading.Lock()

    def run(self, task: bytes, call: bytes, limit_s: float | None, is_wanted: Callable[[], bool]) -> Ended:
        """Run a call in a fresh process, for at most `limit_s` seconds and as long as `is_wanted` returns True.

        Raises
        ------
        RunmemError
            If no process could be made ready.
        """
        with self._lock:
            process = self._idle.pop() if self._idle else None
        if process is not None and not process.is_running():
            process.close()
            process = None
        process = process or _PreparedProcess(self._preparation)
        try:
            ended = process.run(task, call, limit_s, is_wanted)
        except (EOFError, OSError):
            ended = _no_process("the process that starts calls died")
        if ended.pid:
            with self._lock:
                self._idle.append(process)
        else:
            process.close()
        return ended

    def close(self) -> None:
        """End the processes that run no call."""
        with self._lock:
            processes, self._idle = self._idle, []
        for process in processes:
            process.close()


class _PreparedProcess:
    """A started process that is ready for calls, and forks one for each of them."""

    def __init__(self, preparation: bytes) -> None:
        self._connection, its = socket.socketpair()
        self._loaded: set[bytes] = set()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, str(its.fileno())],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
            )
        try:
            messages.send(self._connection, pickle.dumps((sys.path, preparation)))
            problem = messages.receive(self._connection).decode()
        except (EOFError, OSError):
            self.close()
            problem = f"it ended with exit code {self._process.returncode}, and its standard error says why"
        if problem:
            self.close()
            raise RunmemError(f"on node {node_name()} no process can be made ready for calls: {problem}")

    def is_running(self) -> bool:
        """Return True if the process can be given a call."""
        return self._process.poll() is None

    def run(self, task: bytes, call: bytes, limit_s: float | None, is_wanted: Callable[[], bool]) -> Ended:
        """Run a call. Raises EOFError or OSError if this process, which starts it, dies."""
        is_new = task not in self._loaded
        self._loaded.add(task)
        messages.send(self._connection, pickle.dumps((limit_s, task if is_new else None)))
        messages.send(self._connection, call)
        while not messages.readable([self._connection], _WANTED_CHECK_S):
            if not is_wanted():
                return _no_process(GIVEN_UP)
        ended: Ended = pickle.loads(messages.receive(self._connection))
        return ended

    def close(self) -> None:
        """End the process, and the call that it runs."""
        self._connection.close()
        self._process.wait()


def _no_process(cause: str) -> Ended:
    return Ended(0, None, cause, fields={"status": "killed", "reason": cause})


def main(descriptor: int) -> None:
    """Run the calls of the process at the other end of a connection, until that closes it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    connection = socket.socket(fileno=descriptor)
    try:
        sys.path[:], packed = pickle.loads(messages.receive(connection))
        try:
            preparation: Preparation = pickle.loads(packed)
            preparation.begin()
        except Exception as error:
            messages.send(connection, f"{type(error).__name__}: {error}".encode())
            return
        messages.send(connection, b"")
        _serve(connection, preparation)
    except (EOFError, ConnectionError):
        return


def _serve(connection: socket.socket, preparation: Preparation) -> None:
    processes = FreshProcesses(connection, preparation.run)
    try:
        while True:
            limit_s, task = pickle.loads(messages.receive(connection))
            call = messages.receive(connection)
            if task is not None:
                processes.drop_next()
                with suppress(Exception):  # the call fails by it too, and reports it
                    preparation.load(task)
                gc.collect()
                gc.freeze()  # so that a collection in a fresh process does not copy the pages that it shares
            messages.send(connection, pickle.dumps(processes.run(call, limit_s), pickle.HIGHEST_PROTOCOL))
    finally:
        processes.close()
