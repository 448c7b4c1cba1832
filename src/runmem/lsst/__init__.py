"""LSST's own packages together with runmem: needs the extra ``runmem[lsst]``."""

from __future__ import annotations

import importlib
from typing import Any

from runmem.errors import SettingError

_NAMES = {
    "runmem.lsst.butler": ("LsstButler",),
    "runmem.lsst.metric_tasks": (
        "CpuTimingMetricTask", "MemoryMetricConfig", "MemoryMetricTask", "MetadataMetricConfig", "MetadataMetricTask",
        "NoWorkFound", "SingleMetadataMetricConnections", "TimeMethodMetricConfig", "TimingMetricConfig",
        "TimingMetricTask",
    ),
    "runmem.lsst.quantum_graph_executor": (
        "QuantumGraphExecutor", "QuantumGraphExecutorError", "QuantumGraphTimeoutError",
    ),
    "runmem.lsst.repository": ("MetadataRepository",),
}  # fmt: skip
_PLACES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = [  # as _NAMES, written out for type checkers
    "CpuTimingMetricTask", "LsstButler", "MemoryMetricConfig", "MemoryMetricTask", "MetadataMetricConfig",
    "MetadataMetricTask", "MetadataRepository", "NoWorkFound", "QuantumGraphExecutor", "QuantumGraphExecutorError",
    "QuantumGraphTimeoutError", "SingleMetadataMetricConnections", "TimeMethodMetricConfig", "TimingMetricConfig",
    "TimingMetricTask",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import on demand: LSST's packages take seconds to import."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_PLACES[name]), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lsst":
            raise
        raise SettingError(
            f"runmem.lsst.{name} needs {error.name}, which is not installed: pip install 'runmem[lsst]' (version 30 or "
            "later of lsst-pipe-base)."
        ) from error
