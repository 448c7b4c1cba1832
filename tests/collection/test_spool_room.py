"""What a node may free: never what the master does not have on its disk, and only when there is too much."""

from __future__ import annotations

import time
from collections.abc import Callable

from runmem.collection.spool_room import SpoolRoom


def whole(node: str, file: str, end: int) -> int:
    return end


def test_nothing_is_freed_while_there_is_room() -> None:
    room = SpoolRoom(1000, whole)
    assert room.to_free("n", {"n.dat": 600, "tasks-1.jsonl": 400}) == {}


def test_the_end_of_a_trace_is_kept_and_of_lines_nothing() -> None:
    room = SpoolRoom(1000, whole)
    assert room.to_free("n", {"n.dat": 700, "tasks-1.jsonl": 400}) == {"n.dat": 200, "tasks-1.jsonl": 400}


def test_several_traces_share_what_is_kept() -> None:
    room = SpoolRoom(1000, whole)
    assert room.to_free("n", {"n.dat": 700, "mprofile_1.dat": 400}) == {"n.dat": 450, "mprofile_1.dat": 150}


def test_it_is_asked_for_until_it_is_done_and_then_counts() -> None:
    room = SpoolRoom(1000, whole)
    ends = room.to_free("n", {"n.dat": 1200})
    assert ends == {"n.dat": 700}
    assert room.to_free("n", {"n.dat": 9000}) == ends
    room.freed("n", {"n.dat": 3})  # the answer to something else
    assert room.to_free("n", {"n.dat": 9000}) == ends
    room.freed("n", ends)
    assert room.to_free("n", {"n.dat": 1700}) == {}
    assert room.to_free("n", {"n.dat": 1701}) == {"n.dat": 1201}


def test_nodes_are_apart() -> None:
    room = SpoolRoom(1000, whole)
    assert room.to_free("a", {"a.dat": 1200}) == {"a.dat": 700}
    assert room.to_free("b", {"b.dat": 900}) == {}


def test_what_is_not_on_the_disk_of_the_master_is_kept() -> None:
    on_disk = {"n.dat": 650, "tasks-1.jsonl": 0}
    room = SpoolRoom(1000, lambda node, file, end: min(end, on_disk[file]))
    assert room.to_free("n", {"n.dat": 1200, "tasks-1.jsonl": 400}) == {"n.dat": 150}
    on_disk["n.dat"] = 400
    assert SpoolRoom(1000, lambda node, file, end: min(end, on_disk[file])).to_free("n", {"n.dat": 1200}) == {}


def test_nodes_take_turns_where_syncing_takes_long(eventually: Callable[..., object]) -> None:
    """Otherwise a round would wait for the disk until all nodes have been synced, and nothing would be copied."""
    synced: list[str] = []

    def slow(node: str, file: str, end: int) -> int:
        time.sleep(0.06)
        synced.append(node)
        return end

    room, nodes = SpoolRoom(1000, slow), [f"node{number}" for number in range(8)]

    def freed() -> list[str]:
        done = []
        for node in nodes:
            if ends := room.to_free(node, {"n.dat": 1200}):
                room.freed(node, ends)
                done.append(node)
        return done

    first = freed()
    assert 0 < len(first) < len(nodes)
    eventually(lambda: set(synced) == set(nodes) or (freed() and False))
    assert sorted(synced) == nodes  # each once
