"""Tasks that run at the same time, and the program, hand objects and files over by streams."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runmem import INOUT, session, task, wait_on
from runmem.errors import ArgumentError
from runmem.graph.directions import BY_NAME
from runmem.pycompss.streams.distro_stream import (
    AT_LEAST_ONCE,
    FileDistroStream,
    ObjectDistroStream,
    PscoDistroStream,
)

STREAM_IN, STREAM_OUT = BY_NAME["STREAM_IN"], BY_NAME["STREAM_OUT"]


class Message:
    def __init__(self, number: int) -> None:
        self.number = number


@task(ods=STREAM_OUT)
def write(ods: ObjectDistroStream, first: int, count: int) -> None:
    for number in range(first, first + count):
        ods.publish(Message(number))
        time.sleep(0.02)
    ods.close()


@task(returns=1, ods=STREAM_IN)
def read(ods: ObjectDistroStream) -> list[int]:
    found: list[int] = []
    while not ods.is_closed():
        found += [message.number for message in ods.poll()]
    return found + [message.number for message in ods.poll(0)]


@task(fds=STREAM_OUT)
def write_files(fds: FileDistroStream, count: int) -> None:
    for number in range(count):
        (Path(fds.base_dir) / f"file{number}").write_text(str(number))
    fds.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with session(workers=2, summary=False, run_folder=tmp_path_factory.mktemp("streams")) as run:
        yield run


def test_tasks_hand_objects_over_while_they_run(cluster: Any) -> None:
    stream = ObjectDistroStream()
    found = read(stream)  # it ends when the task that is called after it has ended
    write(stream, 0, 10)
    assert wait_on(found) == list(range(10))
    assert stream.is_closed()


@task(returns=1, ods=STREAM_IN)
def names(ods: ObjectDistroStream) -> list[str]:
    found: list[str] = []
    while not ods.is_closed():
        found += [type(message).__name__ for message in ods.poll()]
    return found + [type(message).__name__ for message in ods.poll(0)]


@task(returns=1, ods=STREAM_IN)
def known(ods: ObjectDistroStream) -> list[bool]:
    found: list[bool] = []
    while not ods.is_closed():
        found += [isinstance(message, Message) for message in ods.poll()]
    return found + [isinstance(message, Message) for message in ods.poll(0)]


@pytest.mark.parametrize(("reader", "expected"), [(names, "Message"), (known, True)])
def test_messages_are_of_the_consumer_s_own_class_if_it_has_one(cluster: Any, reader: Any, expected: Any) -> None:
    stream = ObjectDistroStream()
    found = reader(stream)
    write(stream, 0, 3)
    assert wait_on(found) == [expected] * 3
    write(stream, 0, 1)
    while not (messages := stream.poll()):
        pass
    assert isinstance(messages[0], Message)


def test_a_stream_is_closed_when_all_writers_have_closed_it(cluster: Any) -> None:
    stream = ObjectDistroStream()
    write(stream, 0, 3)
    write(stream, 10, 3)
    found: list[int] = []
    while not stream.is_closed():
        found += [message.number for message in stream.poll()]
    found += [message.number for message in stream.poll()]
    assert sorted(found) == [0, 1, 2, 10, 11, 12]


def test_the_program_publishes_to_tasks(cluster: Any) -> None:
    stream = ObjectDistroStream("an alias", AT_LEAST_ONCE)
    found = [read(stream), read(stream)]
    stream.publish_list([Message(number) for number in range(5)])
    stream.close()
    assert sorted(sum(wait_on(found), [])) == list(range(5))


def test_files_of_a_folder_are_polled_once(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "early").touch()
    stream = FileDistroStream(base_dir=tmp_path)
    assert stream.poll() == [str(tmp_path / "early")]
    write_files(stream, 3)
    found: list[str] = []
    while not stream.is_closed():
        found += stream.poll(100)
    found += stream.poll()
    assert sorted(found) == [str(tmp_path / f"file{number}") for number in range(3)]
    assert FileDistroStream(base_dir=tmp_path).poll() != []


def test_persistent_objects_are_refused_with_what_is_missing() -> None:
    with pytest.raises(NotImplementedError, match="need a storage of COMPSs"):
        PscoDistroStream()


@task(ods=STREAM_OUT, numbers=INOUT)
def write_and_change(ods: ObjectDistroStream, numbers: Any) -> None:
    ods.close()


def test_a_refused_call_is_no_writer(cluster: Any) -> None:
    stream = ObjectDistroStream()
    with pytest.raises(ArgumentError):
        write_and_change(stream, 5)  # a task cannot change a number
    write(stream, 0, 2)
    deadline_s = time.monotonic() + 60
    while not stream.is_closed():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
