"""Calls that run alone on a node, in one process and among several."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from runmem.worker.node_turns import NodeTurns


def always() -> bool:
    return True


def take_turns(folder: Path, alone: bool, pipe: Connection) -> None:
    """Begin a block, say so, and end it when asked; in a process of its own."""
    with NodeTurns(folder).turn(alone, always):
        pipe.send("begun")
        pipe.recv()
    pipe.send("ended")


class Other:
    """A block in another process."""

    def __init__(self, folder: Path, alone: bool) -> None:
        self.pipe, end = multiprocessing.get_context("spawn").Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=take_turns, args=(folder, alone, end))
        self.process.start()
        end.close()

    def has_begun(self, within_s: float = 30.0) -> bool:
        return self.pipe.poll(within_s) and self.pipe.recv() == "begun"

    def end(self) -> None:
        self.pipe.send(None)
        assert self.pipe.recv() == "ended"
        self.process.join(30)


def test_a_block_alone_waits_for_those_that_run_and_keeps_others_from_beginning(
    tmp_path: Path, eventually: Callable[..., Any]
) -> None:
    here, order = NodeTurns(tmp_path), []
    first = Other(tmp_path, alone=False)
    assert first.has_begun()
    with here.turn(False, always):  # beside it
        pass
    alone = Other(tmp_path, alone=True)

    def run_beside() -> None:
        with here.turn(False, always):
            order.append("beside")

    def is_closed() -> bool:
        """Whether a block here has to wait, because the other process is next."""
        begins = here._try_beside()
        if begins:
            here._end_beside()
        return not begins

    eventually(is_closed)
    assert not alone.has_begun(0.1)  # the first one still runs
    later = threading.Thread(target=run_beside)
    later.start()
    first.end()
    assert alone.has_begun()
    assert order == []
    alone.end()
    later.join(30)
    assert order == ["beside"]


def test_the_threads_of_a_process_count_among_themselves(tmp_path: Path, eventually: Callable[..., Any]) -> None:
    turns = NodeTurns(tmp_path)
    running, most = [], []

    def run(alone: bool) -> None:
        with turns.turn(alone, always):
            running.append(alone)
            most.append((len(running), any(running)))
            time.sleep(0.02)
            running.remove(alone)

    threads = [threading.Thread(target=run, args=(number % 4 == 0,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(most) == 16
    assert all(together == 1 for together, alone in most if alone)


def test_the_end_of_a_process_ends_its_turn(tmp_path: Path) -> None:
    other = Other(tmp_path, alone=True)
    assert other.has_begun()
    other.process.kill()
    other.process.join(30)
    with NodeTurns(tmp_path).turn(False, always):
        pass


@pytest.mark.parametrize("alone", [False, True])
def test_a_block_that_nobody_wants_any_more_begins_at_once(tmp_path: Path, alone: bool) -> None:
    other = Other(tmp_path, alone=True)
    assert other.has_begun()
    here = NodeTurns(tmp_path)
    with here.turn(alone, lambda: False):
        pass
    other.end()
    with here.turn(False, always):  # nothing is left of it
        pass


def test_one_that_waits_long_lets_others_pass(tmp_path: Path) -> None:
    """A call that runs may wait for one that has not begun: such as for a message."""
    turns = NodeTurns(tmp_path, longest_hold_s=0.05)
    begun, message, order = threading.Event(), threading.Event(), []

    def receive() -> None:
        with turns.turn(False, always):
            begun.set()
            message.wait(30)
            order.append("receiver")

    def alone() -> None:
        with turns.turn(True, always):
            order.append("alone")

    def send() -> None:
        with turns.turn(False, always):
            order.append("sender")
            message.set()

    threads = [threading.Thread(target=receive)]
    threads[0].start()
    assert begun.wait(30)
    for target in (alone, send):
        threads.append(threading.Thread(target=target))
        threads[-1].start()
    for thread in threads:
        thread.join(30)
    assert order[-1] == "alone"
    assert sorted(order) == ["alone", "receiver", "sender"]
