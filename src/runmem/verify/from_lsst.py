"""Measurements of ``lsst.verify`` as runmem's."""

from __future__ import annotations

from typing import Any

from runmem.verify.blob import Blob
from runmem.verify.measurement import Measurement

__all__ = ["as_measurement"]


def as_measurement(given: Any) -> Any:
    """Return a measurement of ``lsst.verify`` as a `Measurement` with the same identifier; anything else as it is."""
    if isinstance(given, Measurement) or not _is_of_lsst(given):
        return given
    document = given.json
    blobs = [Blob.deserialize(**blob.json) for blob in given.blobs.values() if len(blob)]
    prefix = f"{document['metric']}."
    notes = {str(key).removeprefix(prefix): value for key, value in dict(getattr(given, "notes", {}) or {}).items()}
    fields = {key: document[key] for key in ("metric", "identifier", "value", "unit", "blob_refs")}
    return Measurement.deserialize(**fields, blobs=blobs, notes=notes)


def _is_of_lsst(given: object) -> bool:
    """Return True for an object of the class or of a subclass of it."""
    return any(
        kind.__name__ == "Measurement" and kind.__module__.partition(".")[0] == "lsst" for kind in type(given).__mro__
    )
