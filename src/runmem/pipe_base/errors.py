"""Errors of the computation of metrics."""

from __future__ import annotations

from runmem.errors import RunmemError

__all__ = ["MetadataError", "MetricComputationError", "NoWorkFound"]


class MetadataError(RunmemError, ValueError, TypeError):
    """A value that task metadata cannot hold. (LSST's raise ValueError; its type is what is wrong with it.)"""


class MetricComputationError(RunmemError, RuntimeError):
    """Metadata that match a metric's target and cannot be turned into a value."""


class NoWorkFound(RunmemError, LookupError):
    """Metadata that hold nothing for a metric's target, which is no fault of theirs."""
