"""The metadata of a Job, which show the notes of its measurements too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from runmem.reading import JsonObject
from runmem.verify.measurement import Measurement
from runmem.verify.measurement_set import MeasurementSet

__all__ = ["Metadata"]


class Metadata(MutableMapping[str, Any]):
    """Entries of a Job, and the notes of its measurements as ``<package>.<metric>.<note>``.

    An entry with the name of a metric that has a measurement is stored in the notes of that.

    Parameters
    ----------
    measurements : MeasurementSet
    data : mapping, optional
    """

    def __init__(self, measurements: MeasurementSet, data: Mapping[str, Any] | None = None) -> None:
        self._measurements = measurements
        self._own: dict[str, Any] = {}
        self.update(data or {})

    def _measurement(self, key: str) -> Measurement | None:
        """Return the measurement whose note has this key."""
        parts = key.split(".") if isinstance(key, str) else ()
        for count in (2, 1):
            if len(parts) > count and (found := self._measurements.get(".".join(parts[:count]))) is not None:
                return found
        return None

    def __getitem__(self, key: str) -> Any:
        if key in self._own:
            return self._own[key]
        measurement = self._measurement(key)
        if measurement is None:
            raise KeyError(key)
        return measurement.notes[key]

    def __setitem__(self, key: str, value: Any) -> None:
        measurement = self._measurement(key)
        if measurement is None:
            self._own[key] = value
        else:
            self._own.pop(key, None)  # set before the measurement was added
            measurement.notes[key] = value

    def __delitem__(self, key: str) -> None:
        measurement = self._measurement(key)
        if key in self._own or measurement is None:
            del self._own[key]
        else:
            del measurement.notes[key]

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        for name, measurement in self._measurements.items():
            yield from (key for note in measurement.notes if (key := f"{name}.{note}") not in self._own)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def json(self) -> JsonObject:
        """The entries as ``meta`` of a Job."""
        return dict(self)

    def __str__(self) -> str:
        return json.dumps(self.json, sort_keys=True, indent=4, default=str)

    def __repr__(self) -> str:
        return repr(self.json)
