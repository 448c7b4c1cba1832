"""What a forked process tells the program: messages that wait in a pipe until the program looks.

Waking the program for each of many short targets would cost both more than all else about them, and take a core from
the targets. So the program looks every now and then, and is called when the pipe is full or the process has ended.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
from collections.abc import Iterable
from contextlib import suppress

from runmem.task_runner import messages

__all__ = ["Mailbox", "Sender", "pair", "wait_for_call"]

_ROOM_BYTES = 1 << 20


def pair() -> tuple[Mailbox, Sender]:
    """Return a mailbox and its sender, for two processes: each closes the other's after the fork."""
    take, give = os.pipe()
    with suppress(OSError):  # the system has given out all that one user may have
        fcntl.fcntl(give, fcntl.F_SETPIPE_SZ, _ROOM_BYTES)
    os.set_blocking(take, False)
    os.set_blocking(give, False)
    listens, calls = socket.socketpair()
    listens.setblocking(False)
    calls.setblocking(False)
    return Mailbox(take, listens), Sender(give, calls)


def wait_for_call(mailboxes: Iterable[Mailbox], patience_s: float) -> None:
    """Wait until a process calls or ends, or so many seconds."""
    poll = select.poll()
    for mailbox in mailboxes:
        poll.register(mailbox, select.POLLIN)
    poll.poll(patience_s * 1000)


class Mailbox:
    """The program's side."""

    def __init__(self, take: int, line: socket.socket) -> None:
        self._take = take
        self._line = line
        self._data = bytearray()

    def fileno(self) -> int:
        """Return what can be read when the program is called or the process has ended."""
        return self._line.fileno()

    def answer(self) -> bool:
        """Take note of calls; return whether the process is still there."""
        try:
            return bool(self._line.recv(messages.CHUNK_BYTES))
        except BlockingIOError:  # it has not called
            return True
        except ConnectionError:
            return False

    def received(self) -> list[bytes]:
        """Return the messages that have come since the last time."""
        messages.drain(self._take, self._data)
        return messages.taken_out(self._data)

    def hang_up(self) -> None:
        """Let the process know that the program wants no more of it."""
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it in this process."""
        self._line.close()
        os.close(self._take)


class Sender:
    """The forked process's side.

    Attributes
    ----------
    line : socket
        Reads as closed when the program wants no more or is gone.
    """

    def __init__(self, give: int, line: socket.socket) -> None:
        self._give = give
        self.line = line

    def send(self, message: bytes) -> None:
        """Leave a message. Raises BrokenPipeError if the program is gone."""
        left = memoryview(messages.packed(message))
        while True:
            with suppress(BlockingIOError):
                left = left[os.write(self._give, left) :]
            if not left:
                return
            self._call()
            select.select([], [self._give], [])

    def _call(self) -> None:
        with suppress(BlockingIOError):  # it has been called often enough
            self.line.send(b"\0")

    def close(self) -> None:
        """Close it in this process."""
        self.line.close()
        os.close(self._give)
