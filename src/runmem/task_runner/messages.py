"""Messages through pipes between processes, each with its length before it."""

from __future__ import annotations

import os
import struct

__all__ = ["content", "drain", "is_whole", "receive", "send"]

_LENGTH = struct.Struct("<Q")
_CHUNK_BYTES = 1 << 20


def send(descriptor: int, message: bytes) -> None:
    """Write a message, its length before it."""
    view = memoryview(_LENGTH.pack(len(message)) + message)
    while view:
        view = view[os.write(descriptor, view) :]


def receive(descriptor: int) -> bytes | None:
    """Return what `send` wrote; None if the sender is gone."""
    data = bytearray()
    while not is_whole(data):
        part = os.read(descriptor, _CHUNK_BYTES)
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


def drain(descriptor: int, data: bytearray) -> bool:
    """Take all that can be read now; return whether more may come."""
    while True:
        try:
            part = os.read(descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            return True
        if not part:
            return False
        data += part
