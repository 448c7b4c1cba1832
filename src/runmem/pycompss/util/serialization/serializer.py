"""`pycompss.util.serialization.serializer`: objects in files and in bytes.

Functions and classes of the program may be among them. The data are those of Python's pickle, not those of PyCOMPSs.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable
from typing import Any, BinaryIO

import cloudpickle

from runmem.pycompss.util.exceptions import SerializerException

__all__ = [
    "deserialize_from_bytes", "deserialize_from_file", "deserialize_from_handler", "deserialize_from_string",
    "serialize_objects", "serialize_to_bytes", "serialize_to_file", "serialize_to_handler", "serialize_to_string",
]  # fmt: skip

FORCED_SERIALIZER = -1  # programs set it; there is one way to serialize


def serialize_to_handler(obj: object, handler: BinaryIO, logger: object = None) -> None:
    """Write an object to an open file.

    Raises
    ------
    SerializerException
        If it cannot be serialized.
    """
    try:
        handler.write(cloudpickle.dumps(obj, protocol=pickle.HIGHEST_PROTOCOL))
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
        raise SerializerException(f"{obj!r} cannot be serialized: {error}") from error


def deserialize_from_handler(handler: BinaryIO, show_exception: bool = True, logger: object = None) -> tuple[Any, bool]:
    """Return the object at the position of an open file, and True, as the file may be closed then.

    Raises
    ------
    SerializerException
        If there is none.
    """
    try:
        return pickle.load(handler), True
    except Exception as error:  # whatever damaged data lead to
        name = getattr(handler, "name", "the data")
        raise SerializerException(f"{name}: no object can be read ({type(error).__name__}: {error})") from error


def serialize_to_file(obj: object, file_name: str, logger: object = None) -> None:
    """Write an object to a file; raises what `serialize_to_handler` does, and leaves no file then."""
    data = serialize_to_bytes(obj)
    with open(file_name, "wb") as file:
        file.write(data)


def deserialize_from_file(file_name: str, logger: object = None) -> Any:
    """Return the object in a file; raises what `deserialize_from_handler` does."""
    with open(file_name, "rb") as file:
        return deserialize_from_handler(file)[0]


def serialize_to_bytes(obj: object, logger: object = None) -> bytes:
    """Return an object as bytes; raises what `serialize_to_handler` does."""
    handler = io.BytesIO()
    serialize_to_handler(obj, handler)
    return handler.getvalue()


def deserialize_from_bytes(serialized_content_bytes: bytes, show_exception: bool = True, logger: object = None) -> Any:
    """Return the object in bytes; raises what `deserialize_from_handler` does."""
    return deserialize_from_handler(io.BytesIO(serialized_content_bytes))[0]


def serialize_objects(to_serialize: Iterable[tuple[object, str]], logger: object = None) -> None:
    """Write objects to files, given as pairs of an object and a file name."""
    for obj, file_name in to_serialize:
        serialize_to_file(obj, file_name)


serialize_to_string, deserialize_from_string = serialize_to_bytes, deserialize_from_bytes
