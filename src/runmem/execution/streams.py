"""Streams between running tasks and the program, stored in the process of Dask's scheduler.

A sequential run, and a program without a run, store them in the program's process.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from runmem.deadlines import within
from runmem.errors import ArgumentError

__all__ = ["attach", "detach", "operate", "run_of_streams"]

_LEAVE_S = 5.0


class _Stream:
    """A stream: its messages, the number of its writers, and the files that were polled."""

    def __init__(self) -> None:
        self.messages: deque[tuple[bytes, bytes]] = deque()
        self.writers = self.closes = 0
        self.files: set[str] = set()


class _Store:
    """The streams of a run, by name. Operations are atomic."""

    def __init__(self) -> None:
        self._streams: defaultdict[str, _Stream] = defaultdict(_Stream)
        self._lock = threading.Lock()

    def operate(self, operation: str, name: str, value: Any) -> Any:
        """Do an operation, which is a method below, on a stream."""
        with self._lock:
            return getattr(self, f"_{operation}")(self._streams[name], value)

    def _publish(self, stream: _Stream, messages: list[tuple[bytes, bytes]]) -> None:
        stream.messages.extend(messages)

    def _poll(self, stream: _Stream, _: None) -> list[tuple[bytes, bytes]]:
        """Return the unread messages."""
        messages = list(stream.messages)
        stream.messages.clear()
        return messages

    def _poll_files(self, stream: _Stream, files: list[str]) -> list[str]:
        """Return the unread files among these."""
        new = [file for file in files if file not in stream.files]
        stream.files.update(new)
        return new

    def _add_writer(self, stream: _Stream, _: None) -> None:
        stream.writers += 1

    def _remove_writer(self, stream: _Stream, _: None) -> None:
        stream.writers -= 1

    def _close(self, stream: _Stream, _: None) -> None:
        stream.closes += 1

    def _is_closed(self, stream: _Stream, _: None) -> bool:
        """Return True if every writer has closed the stream; without writers, if anyone has."""
        return stream.closes >= max(1, stream.writers)


class _Run(NamedTuple):
    """The run of this process; `connect` returns its Dask client; None: no cluster."""

    run_id: str
    connect: Callable[[], Any] | None


_stores: dict[str, _Store] = {}  # by run; in the scheduler's process, or in the program's
_run = _Run("", None)
_is_used = False


def attach(run_id: str, connect: Callable[[], Any] | None) -> None:
    """Create the streams of this process in a run from now on."""
    global _run, _is_used
    _run, _is_used = _Run(run_id, connect), False


def detach() -> None:
    """Delete the streams of the run, also in the scheduler's process."""
    global _run
    run, _run = _run, _Run("", None)
    _stores.pop(run.run_id, None)
    if _is_used and run.connect is not None:
        within(_LEAVE_S, run.connect().run_on_scheduler, _forget, run.run_id)


def run_of_streams() -> str:
    """Return the id of the current run; empty without a run."""
    return _run.run_id


def operate(run_id: str, operation: str, name: str, value: object = None) -> Any:
    """Do an operation on a stream, from the program or from a task.

    Raises
    ------
    ArgumentError
        If its run has ended.
    """
    global _is_used
    if run_id == _run.run_id:
        if _run.connect is None:
            return _in_process(run_id, operation, name, value)
        _is_used = True
        client = _run.connect()
    else:
        from distributed import get_client

        try:
            client = get_client()
        except ValueError:  # no worker runs this
            raise ArgumentError(f"the stream {name} belongs to a run that has ended") from None
    return client.run_on_scheduler(_in_process, run_id, operation, name, value)


def _in_process(run_id: str, operation: str, name: str, value: object) -> Any:
    return _stores.setdefault(run_id, _Store()).operate(operation, name, value)


def _forget(run_id: str) -> None:
    _stores.pop(run_id, None)
