"""Messages through sockets."""

from __future__ import annotations

from runmem.worker.isolation import messages


def test_whole_messages_are_split_whole_and_the_rest_waits():
    data = bytearray(messages.packed(b"one") + messages.packed(b"") + messages.packed(b"three")[:-1])
    assert messages.split_whole(data) == [b"one", b""]
    assert messages.split_whole(data) == []
    data += b"e"
    assert messages.split_whole(data) == [b"three"]
    assert data == b""
