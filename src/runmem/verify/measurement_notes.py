"""The notes of a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runmem.verify.name import Name

__all__ = ["MeasurementNotes"]


class MeasurementNotes(dict[str, Any]):
    """Texts, numbers and booleans by key. A key may be given with the metric's name, as in a Job's ``meta``.

    Parameters
    ----------
    metric_name : Name
    notes : mapping, optional
    """

    __slots__ = ("metric_name",)

    def __init__(self, metric_name: Name, notes: Mapping[str, Any] | None = None) -> None:
        self.metric_name = metric_name
        if notes:
            super().__init__(notes)
            for key in notes:
                if "." in str(key):
                    self.update({key: super().pop(key)})

    def __reduce__(self) -> Any:
        return MeasurementNotes, (self.metric_name, dict(self))

    def _key(self, key: Any) -> Any:
        return key.removeprefix(f"{self.metric_name}.") if isinstance(key, str) else key

    def __getitem__(self, key: str) -> Any:
        return super().__getitem__(self._key(key))

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(self._key(key), value)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(self._key(key))

    def __contains__(self, key: object) -> bool:
        return super().__contains__(self._key(key))

    def get(self, key: str, default: Any = None) -> Any:
        """Return a note, or the default."""
        return super().get(self._key(key), default)

    def pop(self, key: str, *default: Any) -> Any:
        """Remove a note and return it, or the default."""
        return super().pop(self._key(key), *default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return a note, after setting it to the default if it is not there."""
        return super().setdefault(self._key(key), default)

    def update(self, *given: Any, **more: Any) -> None:
        """Add notes."""
        super().update({self._key(key): value for key, value in dict(*given, **more).items()})

    def __ior__(self, other: Any) -> MeasurementNotes:  # type: ignore[override, misc]
        self.update(other)
        return self
