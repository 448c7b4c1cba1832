"""`pycompss.util.serialization.serializer`: writes objects to files and bytes, and reads them.

Functions and classes of the program can be written, too. The format is Python's pickle; files of PyCOMPSs cannot
be read.
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
    """Return the object at the position of an open file, and True: the file may be closed now.

    Raises
    ------
    SerializerException
        If there is no object.
    """
    try:
        return pickle.load(handler), True
    except Exception as error:  # damaged data can raise any error
        name = getattr(handler, "name", "the data")
        raise SerializerException(f"{name}: no object can be read ({type(error).__name__}: {error})") from error


def serialize_to_file(obj: object, file_name: str, logger: object = None) -> None:
    """Write an object to a file; raise the error of `serialize_to_handler`, and leave no file."""
    data = serialize_to_bytes(obj)
    with open(file_name, "wb") as file:
        file.write(data)


def deserialize_from_file(file_name: str, logger: object = None) -> Any:
    """Return the object in a file; raise the error of `deserialize_from_handler`."""
    with open(file_name, "rb") as file:
        return deserialize_from_handler(file)[0]


def serialize_to_bytes(obj: object, logger: object = None) -> bytes:
    """Return an object as bytes; raise the error of `serialize_to_handler`."""
    handler = io.BytesIO()
    serialize_to_handler(obj, handler)
    return handler.getvalue()


def deserialize_from_bytes(serialized_content_bytes: bytes, show_exception: bool = True, logger: object = None) -> Any:
    """Return the object in bytes; raise the error of `deserialize_from_handler`."""
    return deserialize_from_handler(io.BytesIO(serialized_content_bytes))[0]


def serialize_objects(to_serialize: Iterable[tuple[object, str]], logger: object = None) -> None:
    """Write objects to files, given as pairs of an object and a file name."""
    for obj, file_name in to_serialize:
        serialize_to_file(obj, file_name)


serialize_to_string, deserialize_from_string = serialize_to_bytes, deserialize_from_bytes
