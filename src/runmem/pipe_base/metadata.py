"""Task metadata: named numbers and texts of tasks, in the layout and JSON of LSST."""

from __future__ import annotations

import json
import numbers
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from runmem.pipe_base.errors import MetadataError
from runmem.reading import JsonObject, read_file

__all__ = ["METADATA_VERSION", "Primitive", "TaskMetadata"]

METADATA_VERSION = 1
"""Version of the layout: from 1 on, `MaxResidentSetSize` is in bytes on all platforms."""

Primitive: TypeAlias = str | float | int | bool
_PARTS = frozenset({"scalars", "arrays", "metadata"})
_PLAIN = frozenset({str, float, int, bool})
_AT_MOST_ONE = frozenset({0, 1})


class TaskMetadata(msgspec.Struct, eq=False, forbid_unknown_fields=True):
    """Scalars, arrays and nested metadata under hierarchical names.

    A dot in a key goes one level down: ``metadata["demo.runEndCpuTime"]`` is item ``runEndCpuTime`` of the nested
    metadata ``demo``. Values are `str`, `float` (including NaN and infinity), `int` and `bool`, or lists of one of
    these types. The methods and the JSON are those of ``lsst.pipe.base.TaskMetadata``, so both read the same files.

    Attributes
    ----------
    scalars : dict of str to Primitive
    arrays : dict of str to list of Primitive
    metadata : dict of str to TaskMetadata
    """

    scalars: dict[str, Primitive] = {}
    arrays: dict[str, list[Primitive]] = {}
    metadata: dict[str, TaskMetadata] = {}

    # -- building --

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> TaskMetadata:
        """Return the metadata of a mapping from (dotted) names to values, lists and nested mappings.

        Raises
        ------
        MetadataError
            (a `ValueError` and `TypeError`) For an invalid value, with the key.
        """
        found = cls()
        for key, value in values.items():
            found[key] = value
        return found

    @classmethod
    def from_json(cls, document: str | bytes | Mapping[str, object]) -> TaskMetadata:
        """Return the metadata of a JSON text or of its content.

        Raises
        ------
        ValueError
            If the text is not JSON, or does not have the form ``{"scalars": {}, "arrays": {}, "metadata": {}}``.
        MetadataError
            (a `ValueError` and `TypeError`) For an invalid value, with the key.
        """
        if isinstance(document, (str, bytes)):
            if cls is TaskMetadata and (whole := _decoded(document)) is not None:
                return whole
            content = json.loads(document)
        else:
            content = document
        if not cls.is_json_form(content):
            raise ValueError('not task metadata: expected {"scalars": {...}, "arrays": {...}, "metadata": {...}}')
        found = cls()
        for key, value in content.get("metadata", {}).items():
            owner, last = found._owner(key, make=True)
            owner.metadata[last] = cls.from_json(value) if value else cls()
        scalars, arrays = content.get("scalars", {}), content.get("arrays", {})
        if _is_plain(scalars, arrays):  # true for all files of runmem and LSST, and fast
            found.scalars, found.arrays = dict(scalars), dict(arrays)
            return found
        for key, value in scalars.items():
            owner, last = found._owner(key, make=True)
            owner.scalars[last] = _primitive(key, value)
        for key, value in arrays.items():
            owner, last = found._owner(key, make=True)
            owner.arrays[last] = _array(key, value)
        return found

    @staticmethod
    def is_json_form(content: object) -> bool:
        """Return True if `content` has the three parts of the JSON form (or fewer) and nothing else."""
        if type(content) is dict and content.keys() == _PARTS and set(map(type, content.values())) == {dict}:
            return True  # the usual case, ten times as fast as the general check
        return (
            isinstance(content, Mapping)
            and bool(content)
            and set(content) <= _PARTS
            and all(isinstance(part, Mapping) for part in content.values())
        )

    @classmethod
    def from_metadata(cls, other: Any) -> TaskMetadata:
        """Return a copy of an object with ``paramNames`` and ``getArray``; an array of one element becomes a scalar."""
        found = cls()
        for key in sorted(other.paramNames(topLevelOnly=False)):
            values = other.getArray(key)
            found[key] = values[0] if len(values) == 1 else values
        return found

    @classmethod
    def read(cls, path: Path | str) -> TaskMetadata:
        """Return the metadata in the JSON file `path`; raises as `from_json` does, and `OSError`."""
        return cls.from_json(read_file(path))

    # -- writing --

    def to_dict(self) -> JsonObject:
        """Return scalars, arrays and nested metadata as one dictionary."""
        return {**self.scalars, **self.arrays, **{key: nested.to_dict() for key, nested in self.metadata.items()}}

    def to_json_form(self) -> JsonObject:
        """Return the metadata as a JSON object for `from_json`."""
        return {
            "scalars": dict(self.scalars),
            "arrays": {key: list(values) for key, values in self.arrays.items()},
            "metadata": {key: nested.to_json_form() for key, nested in self.metadata.items()},
        }

    def to_json(self) -> str:
        """Return the JSON text, with the constants ``NaN`` and ``Infinity`` for such numbers."""
        return json.dumps(self.to_json_form())

    # -- items --

    def __setitem__(self, key: str, value: object) -> None:
        owner, last = self._owner(key, make=True)
        if owner is not self:  # levels replace items with the same name
            self._clear_path(key)
        for part in (owner.scalars, owner.arrays, owner.metadata):
            part.pop(last, None)
        if isinstance(value, TaskMetadata):
            owner.metadata[last] = value
        elif isinstance(value, Mapping):
            owner.metadata[last] = TaskMetadata.from_dict(value)
        elif _is_list(value):
            owner.arrays[last] = _array(key, value)
        else:
            owner.scalars[last] = _primitive(key, value)

    def __getitem__(self, key: str) -> Any:
        """Return the value, for an array its last element, or the nested metadata of `key`."""
        owner, last = self._owner(key)
        if last in owner.scalars:
            return owner.scalars[last]
        if last in owner.metadata:
            return owner.metadata[last]
        if owner.arrays.get(last):
            return owner.arrays[last][-1]
        raise KeyError(f"{key!r} not found")

    def __delitem__(self, key: str) -> None:
        owner, last = self._owner(key)
        for part in (owner.scalars, owner.arrays, owner.metadata):
            if last in part:
                del part[last]
                return
        raise KeyError(f"{key!r} not found")

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        owner, last = self, key
        if "." in key:
            try:
                owner, last = self._owner(key)
            except KeyError:
                return False
        return last in owner.scalars or last in owner.arrays or last in owner.metadata

    def __iter__(self) -> Iterator[str]:
        yield from self.scalars
        yield from self.arrays
        yield from self.metadata

    def __len__(self) -> int:
        return len(self.scalars) + len(self.arrays) + len(self.metadata)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskMetadata) and self.to_json_form() == other.to_json_form()

    def __repr__(self) -> str:
        return f"TaskMetadata({self.to_dict()!r})"

    def get(self, key: str, default: object = None) -> Any:
        """Return ``self[key]``, or `default` where there is none."""
        try:
            return self[key]
        except KeyError:
            return default

    def getScalar(self, key: str) -> Any:
        """Return the value of `key`, for an array its last element. Raises `KeyError`."""
        return self[key]

    def getArray(self, key: str) -> list[Any]:
        """Return the values of `key` as a list, even for a scalar. Raises `KeyError`."""
        owner, last = self._owner(key)
        if last in owner.arrays:
            return owner.arrays[last]
        return [self[key]]

    def add(self, key: str, value: Primitive | Sequence[Primitive]) -> None:
        """Append `value` to `key`, which becomes an array; raises `MetadataError` if the type differs."""
        owner, last = self._owner(key, make=True)
        if last in owner.metadata:
            raise MetadataError(f"{key!r} is nested metadata: nothing can be added to it")
        array = owner.arrays.get(last)
        if array and type(value) is type(array[0]):  # append in place: copying would make many additions quadratic
            array.append(value)
            return
        known = array or ([owner.scalars[last]] if last in owner.scalars else [])
        more: Any = value if _is_list(value) else [value]
        owner.arrays[last] = _array(key, [*known, *more])
        owner.scalars.pop(last, None)

    def keys(self) -> tuple[str, ...]:
        """Return the names of this level."""
        return tuple(self)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield the names and values of this level: scalars, then arrays as lists, then nested metadata."""
        yield from self.scalars.items()
        yield from self.arrays.items()
        yield from self.metadata.items()

    def get_dict(self, key: str) -> JsonObject:
        """Return a copy of the nested metadata `key` as a dictionary, empty if missing."""
        nested = self.get(key)
        return nested.to_dict() if isinstance(nested, TaskMetadata) else {}

    def set_dict(self, key: str, value: Mapping[str, object]) -> None:
        """Set the nested metadata `key` from a mapping, which may be nested."""
        self[key] = value

    def level(self, path: str) -> TaskMetadata:
        """Return the nested metadata at the dotted `path`, which may be empty. Raises `KeyError`."""
        if not path:
            return self
        nested = self.metadata.get(path)  # the usual case: one level down
        return self._owner(f"{path}.")[0] if nested is None else nested

    def names(self) -> set[str]:
        """Return all full names, including those of nested metadata."""
        found = set(self)
        for key, nested in self.metadata.items():
            found.update(f"{key}.{name}" for name in nested.names())
        return found

    def paramNames(self, topLevelOnly: bool = True) -> set[str]:
        """Return the full names of scalars and arrays of this level or of all levels."""
        found = {*self.scalars, *self.arrays}
        if not topLevelOnly:
            for key, nested in self.metadata.items():
                found.update(f"{key}.{name}" for name in nested.paramNames(topLevelOnly=False))
        return found

    def _clear_path(self, key: str) -> None:
        owner = self
        for part in key.split(".")[:-1]:
            owner.scalars.pop(part, None)
            owner.arrays.pop(part, None)
            owner = owner.metadata[part]

    def _owner(self, key: str, make: bool = False) -> tuple[TaskMetadata, str]:
        """Return the metadata that contain the last part of the dotted `key`, and that part."""
        if not isinstance(key, str):
            raise KeyError(f"invalid key {key!r}: a key is a string")
        if "." not in key:
            return self, key
        *path, last = key.split(".")
        owner = self
        for part in path:
            if make and part not in owner.metadata:
                owner.metadata[part] = TaskMetadata()
            if part not in owner.metadata:
                raise KeyError(f"{key!r} not found")
            owner = owner.metadata[part]
        return owner, last


def _is_list(value: object) -> bool:
    if isinstance(value, Sequence):
        return not isinstance(value, (str, bytes))
    return bool(getattr(value, "ndim", 0))  # an array of numpy


def _is_plain(scalars: Mapping[str, object], arrays: Mapping[str, Any]) -> bool:
    """Return True if no key has a dot and all values have valid types."""
    if "." in " ".join((*scalars, *arrays)) or not set(map(type, scalars.values())) <= _PLAIN:
        return False
    if not set(map(type, arrays.values())) <= {list}:
        return False
    if not set(map(type, chain.from_iterable(arrays.values()))) <= _PLAIN:
        return False
    return all(len(values) <= 1 or len(set(map(type, values))) == 1 for values in arrays.values())


def _decoded(document: str | bytes) -> TaskMetadata | None:
    """Return the metadata of a JSON text as runmem and LSST write it, ten times as fast as the general parser.

    None for any other text: with NaN or infinity, keys with dots, or invalid values.
    """
    try:
        found = _decoder.decode(document)
    except (ValueError, RecursionError):  # UnicodeEncodeError too
        return None
    return found if (found.scalars or found.arrays or found.metadata) and _is_flat(found) else None


def _is_flat(metadata: TaskMetadata) -> bool:
    """Return True if no key of any level has a dot, and no array has values of two types."""
    scalars, arrays, nested = metadata.scalars, metadata.arrays, metadata.metadata
    if (scalars and "." in "".join(scalars)) or (arrays and "." in "".join(arrays)):
        return False
    if not _AT_MOST_ONE.issuperset(map(len, arrays.values())) and not all(map(_is_uniform, arrays.values())):
        return False
    for name, level in nested.items():  # noqa: SIM110 - all(...) would be slower
        if "." in name or not _is_flat(level):
            return False
    return True


def _is_uniform(values: list[Primitive]) -> bool:
    return len(set(map(type, values))) <= 1


_decoder = msgspec.json.Decoder(TaskMetadata)


def _primitive(key: str, value: object) -> Primitive:
    """Return `value` as one of the four types, converting numbers of numpy."""
    if type(value) in _PLAIN:  # the usual case; checks against abstract classes are slow
        return value  # type: ignore[return-value]
    if isinstance(value, (str, bool)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    raise MetadataError(f"{key} = {value!r} is a {type(value).__name__}: task metadata have str, float, int and bool")


def _array(key: str, values: Any) -> list[Primitive]:
    if not _is_list(values):
        raise MetadataError(f"{key} = {values!r} is not a list")
    found = [_primitive(key, value) for value in values]
    kinds = {type(value) for value in found}
    if len(kinds) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise MetadataError(f"{key} = {values!r} mixes {names}: an array has values of one type")
    return found
