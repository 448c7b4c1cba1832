"""The classes of `lsst.verify`: metrics, measurements, specifications and Jobs."""

from __future__ import annotations

from runmem.verify.blob import Blob
from runmem.verify.blob_set import BlobSet
from runmem.verify.datum import Datum
from runmem.verify.errors import (
    SpecificationResolutionError,
    VerifyFileNotFoundError,
    VerifyKeyError,
    VerifyTypeError,
)
from runmem.verify.job import DuplicateMeasurementError, Job
from runmem.verify.measurement import Measurement
from runmem.verify.measurement_notes import MeasurementNotes
from runmem.verify.measurement_set import MeasurementSet
from runmem.verify.metadata import Metadata
from runmem.verify.metric import Metric
from runmem.verify.metric_set import MetricSet
from runmem.verify.name import Name
from runmem.verify.quantity import Quantity, UnitError
from runmem.verify.report import Report
from runmem.verify.spec import ThresholdSpecification
from runmem.verify.spec_set import SpecificationPartial, SpecificationSet

__all__ = [
    "Blob", "BlobSet", "Datum", "DuplicateMeasurementError", "Job", "Measurement", "MeasurementNotes", "MeasurementSet",
    "Metadata", "Metric", "MetricSet", "Name", "Quantity", "Report", "SpecificationPartial",
    "SpecificationResolutionError", "SpecificationSet", "ThresholdSpecification", "UnitError",
    "VerifyFileNotFoundError", "VerifyKeyError", "VerifyTypeError",
]  # fmt: skip
