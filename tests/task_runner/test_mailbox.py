"""Messages from a forked process that wait until they are looked for."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from runmem.task_runner import messages
from runmem.task_runner.mailbox import pair, wait_for_call

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked on Linux only")


@contextmanager
def forked(does: Callable) -> Iterator:
    mailbox, sender = pair()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            mailbox.close()
            does(sender)
            code = 0
        finally:
            os._exit(code)
    sender.close()
    try:
        yield mailbox, pid
    finally:
        mailbox.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def all_of(mailbox) -> list[bytes]:
    found = []
    while True:
        wait_for_call([mailbox], 60)
        is_there = mailbox.answer()
        found += mailbox.received()
        if not is_there:
            return found


def test_all_that_was_sent_comes_in_order_whatever_its_size():
    sizes = [1, 0, 100, 5_000_000, 3, *[20_000] * 200, 7]
    with forked(lambda sender: [sender.send(bytes([n % 256]) * size) for n, size in enumerate(sizes)]) as (mailbox, _):
        found = all_of(mailbox)
    assert [len(message) for message in found] == sizes
    assert all(set(message) <= {n % 256} for n, message in enumerate(found))


def test_a_process_that_is_killed_in_a_message_leaves_the_whole_ones():
    def does(sender):
        sender.send(b"whole")
        sender.send(b"x" * 50_000_000)

    with forked(does) as (mailbox, pid):
        wait_for_call([mailbox], 60)  # the large one does not fit, so it calls
        assert mailbox.answer()
        os.kill(pid, signal.SIGKILL)
        assert all_of(mailbox) == [b"whole"]


def test_small_messages_do_not_call():
    def does(sender):
        for _ in range(100):
            sender.send(b"small")
        time.sleep(1000)

    with forked(does) as (mailbox, _):
        found: list[bytes] = []
        while len(found) < 100:
            found += mailbox.received()
        wait_for_call([mailbox], 0)
        with pytest.raises(BlockingIOError):
            mailbox._line.recv(1)
        assert mailbox.answer()


def test_a_sender_learns_that_nobody_listens_any_more():
    mailbox, sender = pair()
    mailbox.close()
    with pytest.raises(BrokenPipeError):
        sender.send(b"x")
    sender.close()


def test_whole_messages_are_taken_out_and_the_rest_waits():
    data = bytearray(messages.packed(b"one") + messages.packed(b"") + messages.packed(b"three")[:-1])
    assert messages.taken_out(data) == [b"one", b""]
    assert messages.taken_out(data) == []
    data += b"e"
    assert messages.taken_out(data) == [b"three"]
    assert data == b""
