"""The classes of `lsst.verify`: metrics, measurements, specifications and Jobs."""

from __future__ import annotations

from runmem.verify.blob import Blob
from runmem.verify.datum import Datum
from runmem.verify.job import DuplicateMeasurementError, Job
from runmem.verify.measurement import Measurement
from runmem.verify.metric import Metric
from runmem.verify.metric_set import MetricSet
from runmem.verify.name import Name
from runmem.verify.quantity import Quantity, UnitError
from runmem.verify.report import Report
from runmem.verify.spec import ThresholdSpecification
from runmem.verify.spec_set import SpecificationSet

__all__ = [
    "Blob", "Datum", "DuplicateMeasurementError", "Job", "Measurement", "Metric", "MetricSet", "Name", "Quantity",
    "Report", "SpecificationSet", "ThresholdSpecification", "UnitError",
]  # fmt: skip
