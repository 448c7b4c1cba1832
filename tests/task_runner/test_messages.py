"""Messages through pipes."""

from __future__ import annotations

from runmem.task_runner import messages


def test_whole_messages_are_taken_out_and_the_rest_waits():
    data = bytearray(messages.packed(b"one") + messages.packed(b"") + messages.packed(b"three")[:-1])
    assert messages.taken_out(data) == [b"one", b""]
    assert messages.taken_out(data) == []
    data += b"e"
    assert messages.taken_out(data) == [b"three"]
    assert data == b""
