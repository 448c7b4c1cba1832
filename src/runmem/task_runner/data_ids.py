"""Data ids of a command line, and the references to the data that they name."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runmem.errors import SettingError

__all__ = ["DataIdContainer", "DataRef", "data_id_of", "described", "parse_data_ids", "recorded"]

_RANGE = re.compile(r"^(\d+)\.\.(\d+)(?::(\d+))?$")
_MOST_IDS = 10_000_000
_MOST_TEXT = 200


@dataclass(frozen=True)
class DataRef:
    """A data id and the Butler that has its datasets.

    Attributes
    ----------
    dataId : dict
    butler : Butler
        See `runmem.pipe_base.butler`; it travels to the process that runs the target.
    """

    butler: Any = field(repr=False)
    dataId: dict[str, Any]

    def get(self, datasetType: str, immediate: bool = True, **rest: Any) -> Any:
        """Return a dataset, always at once; `rest` adds to the data id or changes it."""
        return self.butler.get(datasetType, {**self.dataId, **rest})

    def put(self, obj: Any, datasetType: str, doBackup: bool = False, **rest: Any) -> Any:
        """Store a dataset; `doBackup`: keep the one that is there as a backup, if the Butler can."""
        more = {"doBackup": True} if doBackup else {}
        return self.butler.put(obj, datasetType, {**self.dataId, **rest}, **more)

    def exists(self, datasetType: str, **rest: Any) -> bool:
        """Return True if a dataset is there."""
        return bool(self.butler.exists(datasetType, {**self.dataId, **rest}))

    datasetExists = exists

    def getButler(self) -> Any:
        """Return the Butler."""
        return self.butler


def parse_data_ids(words: Sequence[str], option: str = "--id") -> list[dict[str, Any]]:
    """Return the data ids of the words of one option: the product of the values of all keys.

    ``visit=1^2 detector=0..4:2`` means visits 1 and 2, each with detectors 0, 2 and 4. Values that are whole numbers
    become `int` unless they begin with a superfluous zero.

    Raises
    ------
    SettingError
        For a word without ``=``, a key that occurs twice, or an empty value or range.
    """
    values: dict[str, list[int | str]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key or not text:
            raise SettingError(f"{option}: {word!r} is not of the form KEY=VALUE1[^VALUE2...].")
        if key in values:
            raise SettingError(f"{option}: {key!r} occurs twice; write its values in one: {key}=1^2.")
        values[key] = [value for part in text.split("^") for value in _values(part, word, option)]
    count = 1
    for found in values.values():
        count *= len(found)
    if count > _MOST_IDS:
        raise SettingError(f"{option}: {' '.join(words)} means {count:,} data ids; {_MOST_IDS:,} are the most.")
    if not values:
        return []
    return [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]


def _values(part: str, word: str, option: str) -> Iterable[int | str]:
    match = _RANGE.match(part)
    if match is None:
        if not part:
            raise SettingError(f"{option}: {word!r} has an empty value.")
        return [int(part) if re.fullmatch(r"-?(0|[1-9]\d*)", part) else part]
    first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
    if last < first or step < 1:
        raise SettingError(f"{option}: {part!r} in {word!r} is an empty range; write FIRST..LAST or FIRST..LAST:STEP.")
    if last - first > _MOST_IDS * step:
        raise SettingError(f"{option}: {part!r} has more than {_MOST_IDS:,} values.")
    return range(first, last + 1, step)


class DataIdContainer:
    """What one option such as ``--id`` gave.

    Attributes
    ----------
    datasetType : str or None
        The dataset that the data ids select, such as ``raw``.
    idList : list of dict
        Data ids as given.
    refList : list
        References to the data; a program may set it itself, to whatever its task takes.
    """

    def __init__(self, level: str | None = None) -> None:
        self.datasetType: str | None = None
        self.level = level
        self.idList: list[dict[str, Any]] = []
        self.refList: list[Any] = []

    def setDatasetType(self, datasetType: str) -> None:
        """Set the dataset that the data ids select."""
        self.datasetType = datasetType

    def makeDataRefList(self, namespace: Any) -> None:
        """Make `refList` from `idList`; override to group or select.

        Where the Butler can list data ids (`FolderButler.dataIds`) and has datasets of this type, a data id selects
        those that agree with it, and one without keys selects all. Else each data id is a reference of its own.
        """
        butler = namespace.butler
        stored = butler.dataIds(self.datasetType) if self.datasetType and hasattr(butler, "dataIds") else []
        found: list[dict[str, Any]] = []
        for wanted in self.idList:
            if stored:
                matching = [known for known in stored if all(known.get(k) == v for k, v in wanted.items())]
                if not matching:
                    namespace.log.warning("No data found for dataId=%s", wanted)
                found += matching
            elif wanted:
                found.append(wanted)
            else:
                namespace.log.warning("No data found: there is no dataset of type %s", self.datasetType)
        seen: set[tuple[tuple[str, Any], ...]] = set()
        for data_id in found:
            key = tuple(sorted(data_id.items()))
            if key not in seen:
                seen.add(key)
                self.refList.append(DataRef(butler, dict(data_id)))


def described(target: Any) -> str:
    """Return the name of a target in messages: its data id, those of a list, or its text."""
    ref = target[0] if isinstance(target, tuple) and target else target
    data_id = data_id_of(ref)
    if data_id is not None:
        return f"dataId={data_id}"
    if isinstance(ref, (list, tuple)) and any(hasattr(r, "dataId") for r in ref):
        return f"dataIds=[{', '.join(str(data_id_of(r)) for r in ref)}]"
    return f"dataRef={_shortened(repr(ref))}"


def recorded(ref: Any) -> str:
    """Return the name of a reference in the record of its target: its data id, those of a list, or its text."""
    data_id = data_id_of(ref)
    if isinstance(data_id, dict):
        return "{" + ", ".join(f"{key}: {value!r}" for key, value in data_id.items()) + "}"
    if isinstance(ref, (list, tuple)) and any(hasattr(r, "dataId") for r in ref):
        return f"[{', '.join(recorded(r) for r in ref)}]"
    return _shortened(repr(ref) if data_id is None else str(data_id))


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "..."


def data_id_of(ref: Any) -> Any:
    """Return the data id of a reference, as a plain dictionary where it is a mapping; None if it has none."""
    data_id = getattr(ref, "dataId", None)
    if data_id is None:
        return None
    data_id = getattr(data_id, "mapping", data_id)
    return dict(data_id) if isinstance(data_id, Mapping) else data_id
