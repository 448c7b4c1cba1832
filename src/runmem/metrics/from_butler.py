"""Measure a metric for each data id, with metadata from a Butler and measurements stored in it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from runmem.errors import RunmemError, SettingError
from runmem.pipe_base.butler import Butler, ButlerError
from runmem.pipe_base.errors import NoWorkFound
from runmem.pipe_base.struct import Struct

__all__ = ["runFromButler"]

log = logging.getLogger(__name__)


def runFromButler(task: Any, butler: Butler, dataIds: Iterable[object] | None = None) -> list[Struct]:
    """Run a metric task on the metadata of each data id, and store each measurement.

    Like a pipeline with one quantum for each data id (``runQuantum``): read ``{labelName}_metadata``, call ``run`` and
    write ``metricvalue_{package}_{metric}`` with the same data id.

    Parameters
    ----------
    task : MemoryMetricTask or another task with ``config.connections`` and ``run(metadata)``
    butler : Butler
        `FolderButler`, or ``runmem.lsst.LsstButler`` around a Butler of LSST.
    dataIds : iterable of mapping, optional
        Default: all with metadata in `butler`.

    Returns
    -------
    list of Struct
        For each data id ``dataId``, ``measurement`` (None if missing) and ``error``: what kept it from being measured
        or stored, such as `NoWorkFound`, `MetricComputationError` or `ButlerError`, else None. After an error the other
        data ids are still measured; each error is logged, `NoWorkFound` as information.

    Raises
    ------
    SettingError
        If the configuration has neither ``labelName`` nor ``metadata``.
    ButlerError
        If `dataIds` is not given and the Butler cannot list them, or it can store no measurement of this name.

    Notes
    -----
    A pass that was interrupted can be repeated: what is stored already and equal is left as it is.
    """
    connections = task.config.connections.ConnectionsClass(config=task.config)
    if connections.metadata.name == "_metadata":
        raise SettingError("connections.labelName is empty: give the label of the task with the metadata")
    input_name, output_name = connections.metadata.name, connections.measurement.name
    if hasattr(butler, "check_storable"):
        butler.check_storable(output_name)
    data_ids = list(_listed(butler, input_name) if dataIds is None else dataIds)
    if not data_ids:
        log.warning("there is no %s in %r: nothing is measured", input_name, butler)
    return [_run_one(task, butler, input_name, output_name, data_id) for data_id in data_ids]


def _listed(butler: object, name: str) -> Iterable[object]:
    if not hasattr(butler, "dataIds"):
        raise ButlerError(
            f"a {type(butler).__name__} does not list data ids: give dataIds=, or wrap a Butler of LSST in "
            "runmem.lsst.LsstButler."
        )
    found: Iterable[object] = butler.dataIds(name)
    return found


def _run_one(task: Any, butler: Butler, input_name: str, output_name: str, data_id: object) -> Struct:
    try:
        measurement = task.run(butler.get(input_name, data_id)).measurement
        if measurement is None:
            raise NoWorkFound(f"{type(task).__name__} made no measurement")
        butler.put(measurement, output_name, data_id)
    except BaseException as error:
        if not isinstance(error, Exception) and not _is_no_work(error):  # an interrupt
            raise
        expected = (RunmemError, LookupError)
        level = logging.INFO if _is_no_work(error) else logging.ERROR
        log.log(
            level, "no %s for %s: %s", output_name, data_id, error or type(error).__name__,
            exc_info=None if _is_no_work(error) or isinstance(error, expected) else error,
        )  # fmt: skip
        return Struct(dataId=data_id, measurement=None, error=error)
    return Struct(dataId=data_id, measurement=measurement, error=None)


def _is_no_work(error: BaseException) -> bool:
    """Return True for our `NoWorkFound` and for LSST's, which is no `Exception`."""
    return any(kind.__name__ == NoWorkFound.__name__ for kind in type(error).__mro__)
