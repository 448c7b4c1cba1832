"""The Butler protocol, for datasets with a type and a data id, and a Butler that uses a folder of files."""

from __future__ import annotations

import json
import numbers
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote, unquote

from runmem.errors import RunmemError
from runmem.pipe_base.metadata import TaskMetadata
from runmem.reading import read_file
from runmem.store.output import place_file, write_file
from runmem.verify.job import Job
from runmem.verify.measurement import Measurement

__all__ = ["Butler", "ButlerError", "DatasetNotFoundError", "FolderButler", "job_of_one"]

_LONGEST_NAME_BYTES = 200  # of the 255 of most file systems: a suffix and a backup's number may follow


class ButlerError(RunmemError):
    """A dataset that cannot be read or written, or an invalid data id."""


class DatasetNotFoundError(ButlerError, LookupError):
    """A dataset that does not exist."""


@runtime_checkable
class Butler(Protocol):
    """The methods of a Butler that runmem uses; ``lsst.daf.butler.Butler`` has them.

    A dataset is identified by its type, such as ``isr_metadata``, and by a data id: a mapping of dimensions to values,
    or keywords, which override the mapping.
    """

    def get(self, datasetType: str, /, dataId: object = None, **kwargs: object) -> Any:
        """Return a dataset; raises `LookupError` if it does not exist."""

    def put(self, obj: object, datasetType: str, /, dataId: object = None, **kwargs: object) -> object:
        """Store `obj`."""

    def exists(self, datasetType: str, /, dataId: object = None, **kwargs: object) -> object:
        """Return a true value if the dataset exists."""


class FolderButler:
    """A Butler with a folder of files that users and other programs can read.

    A dataset without a data id is the file ``<type><suffix>``, one with a data id
    ``<type>/<dimension>=<value>,...<suffix>``, with the dimensions in alphabetical order. The suffix depends on the
    content:

    ===================== =========================================================================
    ``.metadata.json``    `TaskMetadata`, in the JSON of ``lsst.pipe.base``
    ``.measurement.json`` `Measurement`, as a Job of ``lsst.verify`` with this measurement only
    ``.job.json``         `Job`
    ``.txt``              `str`: configurations
    ``.json``             dictionaries with text keys, lists, numbers, booleans, None
    ===================== =========================================================================

    Parameters
    ----------
    root : path
        The folder; made by the first `put`.

    Notes
    -----
    A file is written as a whole or not at all, so a reader sees the old or the new dataset; symbolic links, owner and
    mode are kept. Characters with a special meaning in names (``/ . , = ~ %`` and all except letters, digits, ``_``,
    ``-`` and ``+``) are written as ``%`` and two hexadecimal digits. Limitation: on a case-insensitive file system data
    ids are case-insensitive.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"FolderButler({str(self.root)!r})"

    def get(self, datasetType: str, /, dataId: object = None, **kwargs: object) -> Any:
        """Return a dataset, with the type of the object that was stored.

        Raises
        ------
        DatasetNotFoundError
            If it does not exist; the message has its path.
        ButlerError
            If the file cannot be read.
        """
        stem = self._stem(datasetType, dataId, kwargs)
        found = self._stored(stem)
        if found is None:
            raise DatasetNotFoundError(
                f"no dataset {datasetType} for {_described(dataId, kwargs)}: there is no {stem}{_SUFFIXES_TEXT}"
            )
        path, read = found
        try:
            return read(read_file(path).decode())
        except FileNotFoundError as error:
            raise DatasetNotFoundError(f"{path} was removed during reading") from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ButlerError(f"{path} cannot be read: {error}") from error

    def put(
        self, obj: object, datasetType: str, /, dataId: object = None, *, doBackup: bool = False, **kwargs: object
    ) -> Path:
        """Store `obj`, replacing the dataset if it exists, and return its file.

        Parameters
        ----------
        obj : TaskMetadata, Measurement, Job, str, or a JSON value
            Metadata of ``lsst.pipe.base`` are converted to `TaskMetadata`.
        datasetType : str
        dataId : mapping, optional
            Dimensions and their values, each an `int` or a `str`.
        doBackup : bool
            Keep the previous dataset as ``<file>~1``; the previous ``~1`` becomes ``~2``, and so on.

        Raises
        ------
        ButlerError
            If `obj` has another type, the data id is invalid, or the file cannot be written.
        """
        stem = self._stem(datasetType, dataId, kwargs)
        suffix, content = _serialized(obj, datasetType)
        path = stem.with_name(stem.name + suffix)
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            if doBackup and (stored := self._stored(stem)) is not None:
                _back_up(stored[0])
            write_file(path, content)
            for other in _READERS:
                old = stem.with_name(stem.name + other)
                if other != suffix and old.is_file():  # the dataset had another type before
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise ButlerError(f"{datasetType} cannot be written to {path}: {error.strerror or error}") from error
        return path

    def exists(self, datasetType: str, /, dataId: object = None, **kwargs: object) -> bool:
        """Return True if the dataset exists. Raises `ButlerError` for an invalid data id or an unreadable folder."""
        return self._stored(self._stem(datasetType, dataId, kwargs)) is not None

    def dataIds(self, datasetType: str) -> list[dict[str, int | str]]:
        """Return the data ids of the datasets of this type, in the order of their values. Raises `ButlerError`."""
        name = _quoted(datasetType, "the name of the dataset type")
        try:
            found = self._found(name)
        except OSError as error:
            raise ButlerError(f"{self.root} cannot be read: {error.strerror or error}") from error
        return sorted(found, key=lambda data_id: [(key, isinstance(v, str), v) for key, v in data_id.items()])

    def _found(self, name: str) -> list[dict[str, int | str]]:
        found: list[dict[str, int | str]] = []
        if any((self.root / (name + suffix)).is_file() for suffix in _READERS):
            found.append({})
        folder = self.root / name
        for path in folder.iterdir() if folder.is_dir() else ():
            stem, dot, suffix = path.name.partition(".")
            items = stem.split(",")
            if dot + suffix in _READERS and all("=" in item for item in items):
                found.append(dict(_parsed(item) for item in items))
        return found

    def _stem(self, dataset_type: str, data_id: object, more: Mapping[str, object]) -> Path:
        """Return the path of the dataset without its suffix."""
        name = _quoted(dataset_type, "the name of the dataset type")
        values = {**_mapping(data_id), **more}
        items = [f"{_quoted(key, 'a dimension')}={_value(key, values[key])}" for key in sorted(values, key=str)]
        last = ",".join(items) or name
        if len(last) > _LONGEST_NAME_BYTES:
            raise ButlerError(f"{dataset_type} for {values!r}: the name of the file would have {len(last)} characters")
        return self.root / name / last if items else self.root / last

    def _stored(self, stem: Path) -> tuple[Path, Callable[[str], Any]] | None:
        for suffix, read in _READERS.items():
            path = stem.with_name(stem.name + suffix)
            try:
                if path.is_file():
                    return path, read
            except OSError as error:
                raise ButlerError(f"{path} cannot be read: {error.strerror or error}") from error
        return None


def _mapping(data_id: object) -> Mapping[str, object]:
    values = {} if data_id is None else getattr(data_id, "mapping", data_id)  # a DataCoordinate has a mapping
    if not isinstance(values, Mapping):
        raise ButlerError(f"{data_id!r} is not a data id: give a mapping such as {{'visit': 42, 'detector': 3}}")
    return values


def _described(data_id: object, more: Mapping[str, object]) -> str:
    values = {**_mapping(data_id), **more}
    return ", ".join(f"{key}={values[key]!r}" for key in sorted(values)) or "the empty data id"


def _quoted(text: object, what: str) -> str:
    if not isinstance(text, str) or not text:
        raise ButlerError(f"{what} is {text!r}: it must be a nonempty text")
    return _escaped(text)


def _escaped(text: str) -> str:
    try:
        return quote(text, safe="+").replace(".", "%2E").replace("~", "%7E")
    except UnicodeEncodeError as error:
        raise ButlerError(f"{text!r} cannot be part of a file's name: {error}") from error


def _value(key: str, value: object) -> str:
    """Return `value` as part of a file name; a text that looks like a number begins with an escape."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, str):
        raise ButlerError(f"data id: {key} = {value!r} is a {type(value).__name__}; a value is an int or a str")
    escaped = _escaped(value)
    return f"%{ord(escaped[0]):02X}{escaped[1:]}" if _NUMBER.fullmatch(escaped) else escaped


def _parsed(item: str) -> tuple[str, int | str]:
    key, _, value = item.partition("=")
    return unquote(key), int(value) if _NUMBER.fullmatch(value) else unquote(value)


def _back_up(path: Path) -> None:
    """Copy `path` to ``path~1`` after renumbering the older backups; `path` itself exists until it is replaced."""
    last = 1
    while os.path.lexists(path.with_name(f"{path.name}~{last}")):
        last += 1
    for number in range(last, 1, -1):
        path.with_name(f"{path.name}~{number - 1}").replace(path.with_name(f"{path.name}~{number}"))
    place_file(path, path.with_name(f"{path.name}~1"), share=False)


def _serialized(obj: object, dataset_type: str) -> tuple[str, bytes]:
    """Return the file suffix and content for `obj`. Raises `ButlerError` if it cannot be stored."""
    try:
        suffix, text = _text(obj)
        return suffix, text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ButlerError(f"{dataset_type} cannot be stored: {error}") from error


def _text(obj: object) -> tuple[str, str]:
    if isinstance(obj, Job):
        return ".job.json", obj.to_json()
    if isinstance(obj, Measurement):
        return ".measurement.json", job_of_one(obj).to_json()
    if isinstance(obj, str):
        return ".txt", obj
    if not isinstance(obj, TaskMetadata) and hasattr(obj, "paramNames") and hasattr(obj, "getArray"):
        obj = TaskMetadata.from_metadata(obj)
    if isinstance(obj, TaskMetadata):
        return ".metadata.json", obj.to_json()
    _check_json(obj)
    return ".json", _json(obj)


def _json(content: object) -> str:
    return json.dumps(content, indent=1) + "\n"


def _check_json(obj: object) -> None:
    """Raise `TypeError` if `obj` does not survive a round trip through JSON."""
    if isinstance(obj, dict):
        for key, value in obj.items():
            if type(key) is not str:
                raise TypeError(f"the key {key!r} is a {type(key).__name__}; in JSON a key is a str")
            _check_json(value)
    elif isinstance(obj, list):
        for value in obj:
            _check_json(value)
    elif obj is not None and type(obj) not in (str, int, float, bool):
        raise TypeError(
            f"{obj!r} is a {type(obj).__name__}; only TaskMetadata, Measurement, Job, str and JSON values can be stored"
        )


def job_of_one(measurement: Measurement) -> Job:
    """Return a Job with one measurement, to store it; raises `ButlerError` if it has no value."""
    if measurement.value is None:
        reason = measurement.notes.get("reason") or "no reason is recorded"
        raise ButlerError(f"{measurement.metric_name} has no value ({reason}): there is nothing to store")
    return Job([measurement])


def _one_measurement(text: str) -> Measurement:
    (measurement,) = _job(text).measurements.values()
    return measurement


def _job(text: str) -> Job:
    return Job.deserialize(**json.loads(text))


_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)")
_READERS: dict[str, Callable[[str], Any]] = {
    ".metadata.json": TaskMetadata.from_json,
    ".measurement.json": _one_measurement,
    ".job.json": _job,
    ".txt": str,
    ".json": json.loads,
}
_SUFFIXES_TEXT = " (.txt, .json, ...)"
