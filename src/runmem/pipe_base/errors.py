"""Errors of configurations, metadata and metrics."""

from __future__ import annotations

from runmem.errors import RunmemError, SettingError

__all__ = ["ConfigError", "FieldNameError", "MetadataError", "MetricComputationError", "NoWorkFound"]


class ConfigError(SettingError):
    """A field that a configuration does not have, or a value that the field does not take."""


class FieldNameError(ConfigError, AttributeError):
    """A name that is no field of a configuration. (LSST's configurations raise AttributeError.)"""


class MetadataError(RunmemError, ValueError, TypeError):
    """A value with a type that task metadata cannot have. (LSST's metadata raise ValueError.)"""


class MetricComputationError(RunmemError, RuntimeError):
    """Metadata that match a metric's target but have no valid value."""


class NoWorkFound(RunmemError, LookupError):
    """Metadata without values for a metric's target, which is not an error of the metadata."""
