"""A process without threads, started to fork fresh processes for the calls of one that has threads.

It loads what the calls need once; after that a fresh process costs a fork.
"""

from __future__ import annotations

import gc
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Protocol

from runmem.deaths import Cause, Death
from runmem.errors import RunmemError
from runmem.store.node_name import node_name
from runmem.worker.isolation import messages
from runmem.worker.isolation.fresh_process import GIVEN_UP, CallEnd, FreshProcesses

__all__ = ["Preparation", "PreparedProcess", "main"]

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


class PreparedProcess:
    """A started process that is ready for calls, and forks one for each of them.

    Parameters
    ----------
    preparation : bytes
        A pickled `Preparation`.

    Raises
    ------
    RunmemError
        If it cannot be made ready.
    """

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
            problem = "it died, and its standard error says why"
        if problem:
            self.close()
            raise RunmemError(f"on node {node_name()} no process can be made ready for calls: {problem}")

    @property
    def is_running(self) -> bool:
        """Whether the process can be given a call."""
        return self._process.poll() is None

    def run(self, task: bytes, call: bytes, limit_s: float | None, is_wanted: Callable[[], bool]) -> CallEnd:
        """Run a call of a task for at most `limit_s` seconds, and as long as `is_wanted` returns True."""
        is_new = task not in self._loaded
        self._loaded.add(task)
        cause = "the process that starts calls died"
        try:
            messages.send(self._connection, pickle.dumps((limit_s, task if is_new else None)))
            messages.send(self._connection, call)
            while not messages.readable([self._connection], _WANTED_CHECK_S):
                if not is_wanted():
                    cause = GIVEN_UP
                    raise EOFError
            ended: CallEnd = pickle.loads(messages.receive(self._connection))
            return ended
        except (EOFError, OSError):
            self.close()
            death = Death(Cause.UNKNOWN, cause, missing="the process of the call could not be looked at any more")
            return CallEnd(0, None, cause, fields={"status": "killed", "reason": cause, "death": asdict(death)})

    def close(self) -> None:
        """End the process, and the call that it runs."""
        self._connection.close()
        self._process.wait()


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
