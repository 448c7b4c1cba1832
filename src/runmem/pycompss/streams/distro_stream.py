"""`pycompss.streams.distro_stream`: objects and files that tasks hand over while they run; without Kafka.

What is published waits in the process of Dask's scheduler until a task or the program polls it, and each message and
file goes to one of those. A task that publishes and is run again, because its worker died, publishes again.
"""

from __future__ import annotations

import os
import pickle
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from runmem.execution.streams import operate, run_of_streams
from runmem.serialization.pickling import dumps_data

__all__ = [
    "AT_LEAST_ONCE", "AT_MOST_ONCE", "EXACTLY_ONCE", "FILE", "OBJECT", "PSCO", "DistroStream", "FileDistroStream",
    "ObjectDistroStream", "PscoDistroStream",
]  # fmt: skip

FILE, OBJECT, PSCO = "FILE", "OBJECT", "PSCO"
AT_MOST_ONCE, AT_LEAST_ONCE, EXACTLY_ONCE = "AT_MOST_ONCE", "AT_LEAST_ONCE", "EXACTLY_ONCE"

_POLL_AGAIN_S = 0.02


class DistroStream:
    """A stream, known by its name in the program and in all tasks that are given it.

    It is closed when each task with the direction STREAM_OUT that it was passed to has called `close`; if there is
    none, when anybody has.

    Parameters
    ----------
    alias : str, optional
        Streams with one alias are one stream.
    access_mode : str
        Accepted for PyCOMPSs: each message goes to one consumer.
    """

    stream_type = ""

    def __init__(self, alias: str | None = None, access_mode: str = AT_MOST_ONCE) -> None:
        self.alias = alias
        self.access_mode = access_mode
        self.id = alias or uuid.uuid4().hex
        self._run_id = run_of_streams()

    def get_stream_id(self) -> str:
        """Return the name that it is known by."""
        return self.id

    def get_stream_alias(self) -> str | None:
        """Return the alias that the program gave it."""
        return self.alias

    def get_stream_type(self) -> str:
        """Return ``OBJECT`` or ``FILE``."""
        return self.stream_type

    def add_writer(self) -> None:
        """Expect one more call of `close`: a task is going to write to the stream."""
        self._operate("add_writer")

    def close(self) -> None:
        """Say that this writer publishes nothing more."""
        self._operate("close")

    def is_closed(self) -> bool:
        """Return True if nothing more is published; what was published may have to be polled yet."""
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
        self._operate("publish", [dumps_data(message) for message in messages])

    def poll(self, timeout: float | None = 200) -> list[Any]:
        """Return the objects that nobody has polled; wait for one, at most so many milliseconds."""
        return [pickle.loads(data) for data in _polled(lambda: self._operate("poll"), timeout)]


class FileDistroStream(DistroStream):
    """A stream of the files that appear in a folder, which the workers and the program share.

    Parameters
    ----------
    base_dir : str
        The folder; files that lie there already belong to the stream.
    """

    stream_type = FILE

    def __init__(
        self, alias: str | None = None, access_mode: str = AT_MOST_ONCE, base_dir: str | os.PathLike[str] = "."
    ) -> None:
        super().__init__(alias, access_mode)
        self.base_dir = os.fspath(base_dir)
        self._folder = os.path.abspath(base_dir)

    def publish(self, message: object) -> None:
        """Do nothing: a file is published by lying in the folder."""

    publish_list = publish

    def poll(self, timeout: float | None = None) -> list[str]:
        """Return the paths of the files that nobody has polled; wait for one, at most so many milliseconds."""
        return _polled(lambda: self._operate("poll_files", self._files()), timeout)

    def _files(self) -> list[str]:
        """Return the files of the folder, the oldest first."""
        with os.scandir(self._folder) as entries:
            files = [(entry.stat().st_mtime_ns, entry.name) for entry in entries if entry.is_file()]
        return [os.path.join(self.base_dir, name) for _, name in sorted(files)]


class PscoDistroStream(DistroStream):
    """A stream of persistent objects, which need a storage of COMPSs; there is none here."""

    def __init__(self, alias: str | None = None, access_mode: str = AT_MOST_ONCE) -> None:
        raise NotImplementedError(
            "PscoDistroStream: persistent objects need a storage of COMPSs (dataClay, Hecuba, Redis), which runmem "
            "does not work with; use an ObjectDistroStream."
        )


def _polled(poll: Callable[[], list[Any]], timeout_ms: float | None) -> list[Any]:
    until_s = time.monotonic() + (timeout_ms or 0) / 1000
    while not (found := poll()) and time.monotonic() < until_s:
        time.sleep(_POLL_AGAIN_S)
    return found
