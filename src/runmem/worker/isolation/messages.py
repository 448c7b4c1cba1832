"""Messages through sockets between processes, each after its length."""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Iterable

__all__ = ["identity", "packed", "read_available", "readable", "receive", "send", "split_whole"]

_CHUNK_BYTES = 1 << 16  # more would be mapped memory, which costs a page fault each time
_LENGTH = struct.Struct("<Q")
_LONGEST_POLL_S = 86_400.0  # `poll` takes a C int of milliseconds


def packed(message: bytes) -> bytes:
    """Return a message after its length."""
    return _LENGTH.pack(len(message)) + message


def send(connection: socket.socket, message: bytes) -> None:
    """Send a message; wait until the kernel has taken all of it."""
    if len(message) < _CHUNK_BYTES:
        connection.sendall(packed(message))
    else:  # not copied
        connection.sendall(_LENGTH.pack(len(message)))
        connection.sendall(message)


def receive(connection: socket.socket) -> bytes:
    """Wait for the next message and return it. Raises EOFError if the sender has gone."""
    (length,) = _LENGTH.unpack(_read(connection, _LENGTH.size))
    return bytes(_read(connection, length))


def _read(connection: socket.socket, length: int) -> bytearray:
    data = bytearray()
    while len(data) < length:
        part = connection.recv(min(_CHUNK_BYTES, length - len(data)))
        if not part:
            raise EOFError
        data += part
    return data


def read_available(connection: socket.socket, data: bytearray) -> bool:
    """Append to `data` all that can be read now; return True if the other side is still connected."""
    while True:
        try:
            part = connection.recv(_CHUNK_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not part:
            return False
        data += part


def split_whole(data: bytearray) -> list[bytes]:
    """Remove all whole messages from the front of `data`, and return them."""
    found, at = [], 0
    while len(data) - at >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(data, at)
        begin, end = at + _LENGTH.size, at + _LENGTH.size + length
        if end > len(data):
            break
        found.append(bytes(data[begin:end]))
        at = end
    del data[:at]
    return found


def readable(connections: Iterable[socket.socket], timeout_s: float | None) -> set[socket.socket]:
    """Wait until a connection has data or has lost its other side; return all such connections, none on timeout."""
    poll = select.poll()
    by_descriptor = {connection.fileno(): connection for connection in connections}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    found = poll.poll(None if timeout_s is None else max(0.0, min(timeout_s, _LONGEST_POLL_S)) * 1000)
    return {by_descriptor[descriptor] for descriptor, _ in found}


def identity(connection: socket.socket) -> tuple[int, int] | None:
    """Return the device and inode of the open socket, which no other open file has; None if its file was closed."""
    try:
        status = os.fstat(connection.fileno())
    except OSError:
        return None
    return status.st_dev, status.st_ino
