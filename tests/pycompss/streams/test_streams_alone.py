"""Without a cluster the process of the program keeps the streams."""

from __future__ import annotations

from pathlib import Path

import pytest

from runmem import session, task, wait_on
from runmem.errors import ArgumentError
from runmem.graph.directions import BY_NAME
from runmem.pycompss.streams.distro_stream import FILE, OBJECT, FileDistroStream, ObjectDistroStream


@task(ods=BY_NAME["STREAM_OUT"])
def write(ods: ObjectDistroStream, first: int) -> None:
    ods.publish_list(range(first, first + 3))
    ods.close()


@task(returns=1, ods=BY_NAME["STREAM_IN"])
def read(ods: ObjectDistroStream) -> list[int]:
    return [number for number in ods.poll()]


def use_a_stream(alias: str, folder: Path) -> ObjectDistroStream:
    stream = ObjectDistroStream(alias)
    assert (stream.get_stream_id(), stream.get_stream_alias(), stream.get_stream_type()) == (alias, alias, OBJECT)
    assert (stream.poll(1), stream.is_closed()) == ([], False)
    write(stream, 5)
    assert stream.is_closed()
    assert wait_on(read(ObjectDistroStream(alias))) == [5, 6, 7]
    assert stream.poll(1) == []
    files = FileDistroStream(alias, base_dir=folder)
    assert (files.get_stream_type(), files.is_closed(), files.poll(1)) == (FILE, False, [])
    return stream


def test_without_a_run(tmp_path: Path) -> None:
    use_a_stream("of this test", tmp_path)


def test_in_a_sequential_run_and_after_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for _ in range(2):  # an alias of an earlier run is a new stream
        with session(sequential=True, summary=False, run_folder=tmp_path):
            stream = use_a_stream("an alias", tmp_path / "folder")
    with pytest.raises(ArgumentError, match="belongs to a run that has ended"):
        stream.poll()
