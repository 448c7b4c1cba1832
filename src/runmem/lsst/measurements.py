"""How measurements are stored in a repository of LSST's, and their conversion."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from runmem.errors import SettingError
from runmem.pipe_base.butler import ButlerError, job_of_one
from runmem.verify.from_lsst import as_measurement
from runmem.verify.job import Job
from runmem.verify.measurement import Measurement

__all__ = ["AS_DICT", "AS_METRIC_VALUE", "measurement_from", "storage_class", "stored_form"]

AS_METRIC_VALUE = "MetricValue"
"""Storage class of measurements of ``lsst.verify``, which its own reporters read."""

AS_DICT = "StructuredDataDict"
"""Storage class where ``lsst.verify`` is not installed: a dictionary, the JSON of a Job with this measurement only."""

_JOB_KEYS = frozenset({"measurements", "blobs", "metrics", "specs", "meta"})


def storage_class() -> str:
    """Return the storage class for new dataset types: `AS_METRIC_VALUE` if ``lsst.verify`` is installed."""
    try:
        found = importlib.util.find_spec("lsst.verify")
    except (ImportError, ValueError):
        found = None
    return AS_DICT if found is None else AS_METRIC_VALUE


def stored_form(measurement: Any, storage_class_name: str) -> Any:
    """Return a measurement as a dataset of this storage class.

    Raises
    ------
    ButlerError
        For a measurement without a value, or with one of a type that JSON lacks.
    """
    ours = as_measurement(measurement)
    job = job_of_one(ours)
    try:
        job.to_json()
    except SettingError as error:
        raise ButlerError(f"{ours.metric_name} cannot be stored: {error}") from error
    if storage_class_name == AS_DICT:
        return job.json
    return measurement if ours is not measurement else _of_lsst(ours)


def measurement_from(found: Any, is_one: bool) -> Any:
    """Return the measurement (if `is_one`) or the Job that was stored as `found`; any other dataset as it is."""
    if isinstance(found, Mapping) and set(found) == _JOB_KEYS:
        job = Job.deserialize(**found)
        entries = found["measurements"]
        return job[entries[0]["metric"]] if is_one and len(entries) == 1 else job
    return as_measurement(found)


def _of_lsst(measurement: Measurement) -> Any:
    """Return a measurement of ``lsst.verify`` with value, notes and extras."""
    verify = importlib.import_module("lsst.verify")
    units = importlib.import_module("astropy.units")
    extras = {
        name: verify.Datum.deserialize(**measurement.extras[name].json) for name in measurement.extras.json["data"]
    }
    found = verify.Measurement(
        str(measurement.metric_name), units.Quantity(measurement.value, measurement.unit), extras=extras
    )
    for note, value in measurement.notes.items():
        found.notes[note] = value
    return found
