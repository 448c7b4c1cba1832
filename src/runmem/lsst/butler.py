"""A Butler of LSST's that takes and gives our metadata and measurements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lsst.pipe.base
from lsst.daf.butler import Butler, DatasetType, MissingDatasetTypeError

from runmem.errors import RunmemError
from runmem.lsst.measurements import AS_DICT, AS_METRIC_VALUE, measurement_from, storage_class, stored_form
from runmem.pipe_base.butler import ButlerError, DatasetNotFoundError
from runmem.pipe_base.metadata import TaskMetadata
from runmem.verify.from_lsst import as_measurement
from runmem.verify.job import Job
from runmem.verify.measurement import Measurement

__all__ = ["LsstButler"]


class LsstButler:
    """Lets runmem read and write a repository of ``lsst.daf.butler``; implements `runmem.pipe_base.butler.Butler`.

    Parameters
    ----------
    butler : lsst.daf.butler.Butler
        With collections to read from, and a run to write to if anything is put.

    Notes
    -----
    Where ``lsst.verify`` is installed, a measurement is stored as one of its own, with the storage class
    ``MetricValue``. Elsewhere it is a dictionary, the JSON of a Job that holds just this measurement, with the storage
    class ``StructuredDataDict``. The dataset type is registered, with the dimensions of the data id, when the first one
    is put. Anything else is stored and read as by the Butler itself, but metadata and measurements come back as ours; a
    dictionary whose dataset type is not named ``metricvalue_...`` comes back as the Job.
    """

    def __init__(self, butler: Butler) -> None:
        self.butler = butler

    def get(self, datasetType: str, /, dataId: object = None, **kwargs: object) -> Any:
        """Return a dataset.

        Raises
        ------
        DatasetNotFoundError
            (a `LookupError`) If it does not exist.
        ButlerError
            For any other error of LSST's Butler, which is the cause.
        """
        with _as_butler_errors(f"{datasetType} for {dataId or kwargs}"):
            found = self.butler.get(datasetType, dataId, **kwargs)
        if isinstance(found, lsst.pipe.base.TaskMetadata):
            return TaskMetadata.from_metadata(found)
        return measurement_from(found, is_one=datasetType.startswith("metricvalue_"))

    def put(self, obj: object, datasetType: str, /, dataId: object = None, **kwargs: object) -> object:
        """Store `obj` in the Butler's run, and return its reference; an equal measurement that is there is left.

        Raises
        ------
        ButlerError
            For a measurement or a Job whose dataset type is registered with another storage class, or that has no value
            or one of a type that JSON lacks; for another measurement that is there; and for any error of LSST's Butler.
        """
        ours = as_measurement(obj)
        if isinstance(ours, Measurement):
            return self._put_measurement(obj, ours, datasetType, dataId, kwargs)
        with _as_butler_errors(f"{datasetType} for {dataId or kwargs}"):
            if isinstance(obj, Job):
                obj.to_json()  # raises before the dataset type is registered
                self._registered(datasetType, dataId, kwargs, AS_DICT, (AS_DICT,))
                obj = obj.json
            elif isinstance(obj, TaskMetadata):
                obj = lsst.pipe.base.TaskMetadata.model_validate_json(obj.to_json())
            return self.butler.put(obj, datasetType, dataId, **kwargs)

    def exists(self, datasetType: str, /, dataId: object = None, **kwargs: object) -> bool:
        """Return True if the dataset is there; False also if its type is unknown. Raises `ButlerError`."""
        try:
            with _as_butler_errors(f"{datasetType} for {dataId or kwargs}"):
                return bool(self.butler.exists(datasetType, dataId, **kwargs))
        except DatasetNotFoundError:
            return False

    def dataIds(self, datasetType: str) -> list[dict[str, object]]:
        """Return the data ids of which the Butler's collections have a dataset of this type, sorted.

        Raises
        ------
        ButlerError
            If the registry cannot be read.
        """
        try:
            with _as_butler_errors(f"the data ids of {datasetType}"):
                refs = self.butler.query_datasets(datasetType, find_first=True, explain=False, limit=None)
        except DatasetNotFoundError:
            return []
        return [dict(data_id.required) for data_id in sorted(ref.dataId for ref in refs)]

    def check_storable(self, datasetType: str) -> None:
        """Raise `ButlerError` if no measurement can be stored under this name."""
        try:
            known = self.butler.get_dataset_type(datasetType).storageClass_name
        except MissingDatasetTypeError:
            return
        if known not in _storable():
            needs = " (lsst.verify is not installed)" if known == AS_METRIC_VALUE else ""
            raise ButlerError(
                f"{datasetType} is registered with the storage class {known}; runmem stores measurements as "
                f"{' or '.join(_storable())}{needs}. Give the metric another name."
            )

    def _put_measurement(
        self, given: object, ours: Measurement, name: str, data_id: Any, more: Mapping[str, Any]
    ) -> object:
        place = f"{name} for {data_id or more}"
        stored_form(ours, AS_DICT)  # raises before the dataset type is registered
        kind = self._registered(name, data_id, more, storage_class(), _storable())
        with _as_butler_errors(place):
            there = self.butler.find_dataset(name, data_id, collections=self.butler.run, **more)
            if there is None:
                return self.butler.put(stored_form(given, kind), name, data_id, **more)
            before = measurement_from(self.butler.get(there), is_one=True)
        if before == ours:
            return there
        raise ButlerError(f"the run {self.butler.run} has {place} already: {before}; now {ours}. Use a new run.")

    def _registered(self, name: str, data_id: Any, more: Mapping[str, Any], new: str, allowed: tuple[str, ...]) -> str:
        """Return the storage class of a dataset type, which is registered as `new` if it is not known."""
        try:
            known = str(self.butler.get_dataset_type(name).storageClass_name)
        except MissingDatasetTypeError:
            with _as_butler_errors(name):
                dimensions = self.butler.dimensions.conform([*self._dimensions(data_id), *more])
                self.butler.registry.registerDatasetType(DatasetType(name, dimensions, new))
            return new
        if known not in allowed:
            self.check_storable(name)
            raise ButlerError(f"{name} is registered with the storage class {known}, not {' or '.join(allowed)}")
        return known

    @staticmethod
    def _dimensions(data_id: Any) -> Any:
        if data_id is None:
            return ()
        return data_id.dimensions.names if hasattr(data_id, "dimensions") else data_id.keys()


def _storable() -> tuple[str, ...]:
    """Return the storage classes that can hold a measurement here."""
    return (AS_METRIC_VALUE, AS_DICT) if storage_class() == AS_METRIC_VALUE else (AS_DICT,)


@contextmanager
def _as_butler_errors(place: str) -> Iterator[None]:
    """Raise errors of LSST's Butler, its databases and files as `ButlerError`, missing datasets as its subclass."""
    try:
        yield
    except ButlerError:
        raise
    except (LookupError, FileNotFoundError, MissingDatasetTypeError) as error:
        raise DatasetNotFoundError(f"no dataset {place}: {error}") from error
    except Exception as error:
        what = str(error) if isinstance(error, RunmemError) else f"{type(error).__name__}: {error}"
        raise ButlerError(f"{place}: {what}") from error
