"""Messages through pipes between processes, each with its length before it."""

from __future__ import annotations

import os
import struct

__all__ = ["CHUNK_BYTES", "content", "drain", "identity", "is_whole", "packed", "receive", "send", "taken_out"]

CHUNK_BYTES = 1 << 20

_LENGTH = struct.Struct("<Q")


def identity(descriptor: int) -> tuple[int, int]:
    """Return what tells the open file of a descriptor apart from all others. Raises OSError if it is closed."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def packed(message: bytes) -> bytes:
    """Return a message with its length before it."""
    return _LENGTH.pack(len(message)) + message


def send(descriptor: int, message: bytes) -> None:
    """Write a message, its length before it."""
    view = memoryview(packed(message))
    while view:
        view = view[os.write(descriptor, view) :]


def receive(descriptor: int) -> bytes | None:
    """Return what `send` wrote; None if the sender is gone."""
    data = bytearray()
    while not is_whole(data):
        part = os.read(descriptor, CHUNK_BYTES)
        if not part:
            return None
        data += part
    return content(data)


def content(data: bytes | bytearray) -> bytes:
    """Return the message of what was read of it, its length before it."""
    return bytes(data[_LENGTH.size :])


def is_whole(data: bytes | bytearray) -> bool:
    """Tell whether all of a message, its length before it, was read."""
    return len(data) >= _LENGTH.size and len(data) == _LENGTH.size + int(_LENGTH.unpack_from(data)[0])


def taken_out(data: bytearray) -> list[bytes]:
    """Take all whole messages out of what was read of them, and return them."""
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


def drain(descriptor: int, data: bytearray) -> bool:
    """Take all that can be read now; return whether more may come."""
    while True:
        try:
            part = os.read(descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return True
        if not part:
            return False
        data += part
