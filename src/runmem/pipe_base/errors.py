"""Errors of metadata and metrics."""

from __future__ import annotations

from runmem.errors import RunmemError

__all__ = ["MetadataError", "MetricComputationError", "NoWorkFound"]


class MetadataError(RunmemError, ValueError, TypeError):
    """A value with a type that task metadata cannot have. (LSST's metadata raise ValueError.)"""


class MetricComputationError(RunmemError, RuntimeError):
    """Metadata that match a metric's target but have no valid value."""


class NoWorkFound(RunmemError, LookupError):
    """Metadata without values for a metric's target, which is not an error of the metadata."""
