"""A Butler of LSST's that takes and gives our metadata and measurements."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lsst.pipe.base
from lsst.daf.butler import Butler, DatasetType, MissingDatasetTypeError

from runmem.errors import SettingError
from runmem.pipe_base.butler import ButlerError, job_of_one
from runmem.pipe_base.metadata import TaskMetadata
from runmem.verify.job import Job
from runmem.verify.measurement import Measurement

__all__ = ["LsstButler"]

_STORAGE_CLASS = "StructuredDataDict"
_JOB_KEYS = frozenset({"measurements", "blobs", "metrics", "specs", "meta"})


class LsstButler:
    """Lets runmem read and write a repository of ``lsst.daf.butler``; implements `runmem.pipe_base.butler.Butler`.

    Parameters
    ----------
    butler : lsst.daf.butler.Butler
        With collections to read from, and a run to write to if anything is put.

    Notes
    -----
    A measurement is stored as a dictionary, the JSON of a Job of ``lsst.verify`` that holds just this measurement, with
    the storage class ``StructuredDataDict``: the class ``MetricValue`` can only be used where ``lsst.verify`` is
    installed. The dataset type is registered, with the dimensions of the data id, when the first one is put. Anything
    else is stored and read as by the Butler itself, but metadata come back as ours.
    """

    def __init__(self, butler: Butler) -> None:
        self.butler = butler

    def get(self, datasetType: str, /, dataId: object = None, **kwargs: object) -> Any:
        """Return a dataset; errors are those of ``lsst.daf.butler``, a missing dataset a `LookupError`."""
        found = self.butler.get(datasetType, dataId, **kwargs)
        if isinstance(found, lsst.pipe.base.TaskMetadata):
            return TaskMetadata.from_metadata(found)
        if isinstance(found, Mapping) and set(found) == _JOB_KEYS:
            job = Job.deserialize(**found)
            return next(iter(job.measurements.values())) if datasetType.startswith("metricvalue_") else job
        return found

    def put(self, obj: object, datasetType: str, /, dataId: object = None, **kwargs: object) -> object:
        """Store `obj` in the Butler's run, and return its reference.

        Raises
        ------
        ButlerError
            For a measurement or a Job whose dataset type is registered with another storage class, or that has no value
            or one of a type that JSON lacks.
        """
        if isinstance(obj, (Measurement, Job)):
            job = job_of_one(obj) if isinstance(obj, Measurement) else obj
            try:
                job.to_json()  # raises before the dataset type is registered
            except SettingError as error:
                raise ButlerError(f"{datasetType} cannot be stored: {error}") from error
            self._register(datasetType, dataId, kwargs)
            obj = job.json
        elif isinstance(obj, TaskMetadata):
            obj = lsst.pipe.base.TaskMetadata.model_validate_json(obj.to_json())
        return self.butler.put(obj, datasetType, dataId, **kwargs)

    def exists(self, datasetType: str, /, dataId: object = None, **kwargs: object) -> bool:
        """Return True if the dataset is there; False also if its type is unknown."""
        try:
            return bool(self.butler.exists(datasetType, dataId, **kwargs))
        except MissingDatasetTypeError:
            return False

    def dataIds(self, datasetType: str) -> list[dict[str, object]]:
        """Return the data ids of which the Butler's collections have a dataset of this type, sorted."""
        try:
            refs = self.butler.query_datasets(datasetType, find_first=True, explain=False, limit=None)
        except MissingDatasetTypeError:
            return []
        return [dict(data_id.required) for data_id in sorted(ref.dataId for ref in refs)]

    def _register(self, name: str, data_id: Any, more: Mapping[str, Any]) -> None:
        try:
            known = self.butler.get_dataset_type(name)
        except MissingDatasetTypeError:
            dimensions = self.butler.dimensions.conform([*self._dimensions(data_id), *more])
            self.butler.registry.registerDatasetType(DatasetType(name, dimensions, _STORAGE_CLASS))
            return
        if known.storageClass_name != _STORAGE_CLASS:
            raise ButlerError(
                f"{name} is registered with the storage class {known.storageClass_name}; runmem stores measurements as "
                f"{_STORAGE_CLASS}. Give the metric another name."
            )

    @staticmethod
    def _dimensions(data_id: Any) -> Any:
        if data_id is None:
            return ()
        return data_id.dimensions.names if hasattr(data_id, "dimensions") else data_id.keys()
