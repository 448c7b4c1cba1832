"""`pycompss.streams.distro_stream`: streams of objects and files between running tasks, without Kafka.

Messages wait in the process of Dask's scheduler until a task or the program polls them; each message goes to one
consumer. A task that is run again, because its worker died, publishes its messages again.
"""

from __future__ import annotations

import io
import os
import pickle
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from runmem.errors import ResultError
from runmem.execution.streams import operate, run_of_streams
from runmem.serialization.definitions import current_definitions
from runmem.serialization.pickling import dumps_data
from runmem.serialization.references import ReferencePickler

__all__ = [
    "AT_LEAST_ONCE", "AT_MOST_ONCE", "EXACTLY_ONCE", "FILE", "OBJECT", "PSCO", "DistroStream", "FileDistroStream",
    "ObjectDistroStream", "PscoDistroStream",
]  # fmt: skip

FILE, OBJECT, PSCO = "FILE", "OBJECT", "PSCO"
AT_MOST_ONCE, AT_LEAST_ONCE, EXACTLY_ONCE = "AT_MOST_ONCE", "AT_LEAST_ONCE", "EXACTLY_ONCE"

_POLL_AGAIN_S = 0.02


class DistroStream:
    """A stream, which the program and its tasks identify by name.

    It is closed once every task that received it with the direction STREAM_OUT has called `close`; without such a task,
    after the first `close`.

    Parameters
    ----------
    alias : str, optional
        Streams with the same alias are the same stream.
    access_mode : str
        Ignored: each message goes to one consumer.
    """

    stream_type = ""

    def __init__(self, alias: str | None = None, access_mode: str = AT_MOST_ONCE) -> None:
        self.alias = alias
        self.access_mode = access_mode
        self.id = alias or uuid.uuid4().hex
        self._run_id = run_of_streams()

    def get_stream_id(self) -> str:
        """Return the name of the stream."""
        return self.id

    def get_stream_alias(self) -> str | None:
        """Return the alias, if the program has given one."""
        return self.alias

    def get_stream_type(self) -> str:
        """Return ``OBJECT`` or ``FILE``."""
        return self.stream_type

    def add_writer(self) -> None:
        """Add a task that writes to the stream and will call `close`."""
        self._operate("add_writer")

    def remove_writer(self) -> None:
        """Remove a task that was added, and does not run after all."""
        self._operate("remove_writer")

    def close(self) -> None:
        """Report that this writer has finished."""
        self._operate("close")

    def is_closed(self) -> bool:
        """Return True if all writers have finished; messages may remain to be polled."""
        return bool(self._operate("is_closed"))

    def _operate(self, operation: str, value: object = None) -> Any:
        return operate(self._run_id, operation, f"{self.stream_type}-{self.id}", value)


class ObjectDistroStream(DistroStream):
    """A stream of objects."""

    stream_type = OBJECT

    def publish(self, message: object) -> None:
        """Append an object."""
        self.publish_list([message])

    def publish_list(self, messages: Iterable[object]) -> None:
        """Append objects."""
        self._operate("publish", [_pickled(message) for message in messages])

    def poll(self, timeout: float | None = 200) -> list[Any]:
        """Return the unread objects; wait up to `timeout` milliseconds for the first."""
        return [_message(*pickles) for pickles in _polled(lambda: self._operate("poll"), timeout)]


class FileDistroStream(DistroStream):
    """A stream of the files in a folder that the workers and the program share.

    Parameters
    ----------
    base_dir : str
        The folder; files that are there already belong to the stream.
    """

    stream_type = FILE

    def __init__(
        self, alias: str | None = None, access_mode: str = AT_MOST_ONCE, base_dir: str | os.PathLike[str] = "."
    ) -> None:
        super().__init__(alias, access_mode)
        self.base_dir = os.fspath(base_dir)
        self._folder = os.path.abspath(base_dir)

    def publish(self, message: object) -> None:
        """Do nothing: the files in the folder are the messages."""

    publish_list = publish

    def poll(self, timeout: float | None = None) -> list[str]:
        """Return the paths of the unread files; wait up to `timeout` milliseconds for the first."""
        return _polled(lambda: self._operate("poll_files", self._files()), timeout)

    def _files(self) -> list[str]:
        """Return the files of the folder, oldest first."""
        with os.scandir(self._folder) as entries:
            files = [(entry.stat().st_mtime_ns, entry.name) for entry in entries if entry.is_file()]
        return [os.path.join(self.base_dir, name) for _, name in sorted(files)]


class PscoDistroStream(DistroStream):
    """A stream of persistent objects; not supported."""

    def __init__(self, alias: str | None = None, access_mode: str = AT_MOST_ONCE) -> None:
        raise NotImplementedError(
            "PscoDistroStream: persistent objects need a storage of COMPSs (dataClay, Hecuba, Redis), which runmem "
            "does not work with; use an ObjectDistroStream."
        )


def _pickled(message: object) -> tuple[bytes, bytes]:
    """Return a pickle with references to the program's classes and, if there are any, another pickle by value."""
    file = io.BytesIO()
    pickler = ReferencePickler(file, current_definitions())
    pickler.dump(message)
    return file.getvalue(), dumps_data(message) if pickler.numbers else b""


def _message(with_references: bytes, by_value: bytes) -> Any:
    """Return a message, with the consumer's own classes if the consumer has them."""
    try:
        return pickle.loads(with_references)
    except ResultError:
        return pickle.loads(by_value)


def _polled(poll: Callable[[], list[Any]], timeout_ms: float | None) -> list[Any]:
    until_s = time.monotonic() + (timeout_ms or 0) / 1000
    while not (found := poll()) and time.monotonic() < until_s:
        time.sleep(_POLL_AGAIN_S)
    return found
