"""Objects are the same after a way through a file, bytes or an open file."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pytest

from runmem.pycompss.util.exceptions import SerializerException
from runmem.pycompss.util.serialization import serializer


class Shape:
    def __init__(self, sides: int) -> None:
        self.sides = sides


@pytest.mark.parametrize(
    "value", [3, "text", None, [1, {"a": (2, 3)}], Shape(4)], ids=lambda value: type(value).__name__
)
def test_an_object_comes_back(tmp_path: Path, value: object) -> None:
    path = str(tmp_path / "object")
    serializer.serialize_to_file(value, path, None)
    data = serializer.serialize_to_bytes(value)
    assert serializer.serialize_to_string is serializer.serialize_to_bytes
    for found in (serializer.deserialize_from_file(path, None), serializer.deserialize_from_bytes(data, True, None)):
        assert found == value or found.sides == value.sides


def test_arrays_and_functions_come_back(tmp_path: Path) -> None:
    files = [(np.arange(5), str(tmp_path / "a")), (lambda x: 2 * x, str(tmp_path / "b"))]
    serializer.serialize_objects(files)
    array, double = (serializer.deserialize_from_file(path) for _, path in files)
    assert array.tolist() == [0, 1, 2, 3, 4]
    assert double(4) == 8


def test_an_open_file_holds_several_objects() -> None:
    handler = io.BytesIO()
    for value in (1, "two"):
        serializer.serialize_to_handler(value, handler)
    handler.seek(0)
    assert [serializer.deserialize_from_handler(handler)[0] for _ in range(2)] == [1, "two"]
    with pytest.raises(SerializerException, match="no object can be read"):
        serializer.deserialize_from_handler(handler)


def test_what_cannot_be_serialized_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(SerializerException, match="cannot be serialized"):
        serializer.serialize_to_file(threading.Lock(), str(tmp_path / "lock"))
    assert list(tmp_path.iterdir()) == []


def test_damaged_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "damaged").write_bytes(b"\x80\x05garbage")
    with pytest.raises(SerializerException, match="damaged: no object can be read"):
        serializer.deserialize_from_file(str(tmp_path / "damaged"))
    with pytest.raises(SerializerException, match="the data: no object can be read"):
        serializer.deserialize_from_bytes(b"")
