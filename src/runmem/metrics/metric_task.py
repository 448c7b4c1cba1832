"""The base of metric tasks: find values of a task's metadata by their keys, and make a measurement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from runmem.errors import SettingError
from runmem.metrics.from_butler import runFromButler
from runmem.metrics.from_records import metadata_from_records
from runmem.metrics.metric_config import TimeMethodMetricConfig
from runmem.pipe_base.butler import Butler
from runmem.pipe_base.errors import MetricComputationError
from runmem.pipe_base.metadata import TaskMetadata
from runmem.pipe_base.struct import Struct
from runmem.verify.measurement import Measurement

__all__ = ["MetadataMetricTask", "metadata_from", "names_with"]


class MetadataMetricTask:
    """A metric computed from values of a task's metadata. Subclass it for your own metric.

    Override `getInputMetadataKeys`, which names the values by (the end of) their keys, and `makeMeasurement`, which
    turns them into a `Measurement`; it can also be called directly.

    Parameters
    ----------
    config : TimeMethodMetricConfig or MetadataMetricConfig, optional
        An instance of `ConfigClass`; default an unchanged one.

    Raises
    ------
    SettingError
        (a `ValueError`) If the configuration is not valid.
    """

    ConfigClass: ClassVar[Any] = TimeMethodMetricConfig

    def __init__(self, config: Any = None) -> None:
        self.config = self.ConfigClass() if config is None else config
        if isinstance(self.config, type) or not hasattr(self.config, "validate"):
            raise SettingError(
                f"the configuration is {self.config!r}: give an object, config = {type(self).__name__}.ConfigClass(), "
                "with the attributes connections and target"
            )
        self.config.validate()

    @classmethod
    def getInputMetadataKeys(cls, config: Any) -> dict[str, str]:
        """Return the inputs of `makeMeasurement`: a name for each, and a text that the full key contains."""
        raise TypeError(f"{cls.__name__} does not say which keys it reads: define getInputMetadataKeys(cls, config).")

    def makeMeasurement(self, values: Mapping[str, object]) -> Measurement | None:
        """Return the measurement.

        Parameters
        ----------
        values : mapping
            For each name of `getInputMetadataKeys` the value, or the last of an array; None without such a key.

        Raises
        ------
        NoWorkFound
            If there is nothing to measure.
        MetricComputationError
            If the values are not valid.
        """
        raise TypeError(f"{type(self).__name__} does not say how it measures: define makeMeasurement(self, values).")

    def run(self, metadata: object) -> Struct:
        """Return ``Struct(measurement=...)``.

        Parameters
        ----------
        metadata : TaskMetadata, mapping, path or None
            The metadata; a mapping of names to values or in the JSON form; the path of a JSON file or of a run
            directory; or any object with ``paramNames`` and ``getArray``, such as a real ``lsst.pipe.base`` one.

        Raises
        ------
        NoWorkFound
            If the metadata have nothing for the target.
        MetricComputationError
            If several keys fit, or a value is malformed; the message names the key and the value.
        """
        content = metadata_from(metadata)
        keys = self._find_keys(content, self.getInputMetadataKeys(self.config))
        measurement = self.makeMeasurement(self._choose_values(content, keys))
        if measurement is not None:
            self._add_notes(measurement, content, keys)
        return Struct(measurement=measurement)

    def _find_keys(self, content: TaskMetadata, fragments: Mapping[str, str]) -> dict[str, str | None]:
        """Return the full key of each input, None if there is none. Raises `MetricComputationError` for several."""
        return {name: self.matching_key(content, fragment) for name, fragment in fragments.items()}

    def _choose_values(self, content: TaskMetadata, keys: Mapping[str, str | None]) -> dict[str, Any]:
        """Return the value of each input, of several calls that of the last."""
        values: dict[str, Any] = {}
        for name, key in keys.items():
            array = [] if key is None else content.getArray(key)
            if key is not None and not array:
                raise MetricComputationError(f"invalid metadata: {key} = [] has no value")
            values[name] = array[-1] if array else None
        return values

    def _add_notes(self, measurement: Measurement, content: TaskMetadata, keys: Mapping[str, str | None]) -> None:
        """Add notes on what the metadata say of the value."""

    def runFromButler(self, butler: Butler, dataIds: Iterable[object] | None = None) -> list[Struct]:
        """Run on the metadata of each data id, and store each measurement; see `runmem.metrics.from_butler`."""
        return runFromButler(self, butler, dataIds)

    def matching_key(self, metadata: TaskMetadata, fragment: str) -> str | None:
        """Return the full name that contains `fragment`, None if there is none.

        Raises
        ------
        MetricComputationError
            If there are several, so that the target is ambiguous; the message lists them.
        """
        found = names_with(fragment, metadata)
        if len(found) > 1:
            target = getattr(self.config, "target", fragment)
            raise MetricComputationError(
                f"target {target!r} is ambiguous: it matches {', '.join(sorted(found))}. Give more of the name."
            )
        return found[0] if found else None

    @classmethod
    def areInputDatasetsScalar(cls, config: Any) -> dict[str, bool]:
        """Return for each input whether it is one dataset: one set of metadata for one metric."""
        return {"metadata": not cls._connections(config).metadata.multiple}

    @classmethod
    def getInputDatasetTypes(cls, config: Any) -> dict[str, str]:
        """Return the name of the input dataset."""
        return {"metadata": str(cls._connections(config).metadata.name)}

    @classmethod
    def _connections(cls, config: Any) -> Any:
        return config.connections.ConnectionsClass(config=config)

    @classmethod
    def getOutputMetricName(cls, config: Any) -> str:
        """Return ``package.metric``."""
        return str(config.metricName)


def metadata_from(source: object) -> TaskMetadata:
    """Convert the argument of `MetadataMetricTask.run`; raises `MetricComputationError` if it is not metadata."""
    if isinstance(source, TaskMetadata):
        return source
    if source is None:
        return TaskMetadata()
    try:
        if isinstance(source, (str, Path)):
            return _of_path(source)
        if isinstance(source, Mapping):
            as_json = TaskMetadata.is_json_form(source)
            return TaskMetadata.from_json(source) if as_json else TaskMetadata.from_dict(source)
        if not hasattr(source, "paramNames") or not hasattr(source, "getArray"):
            raise TypeError(
                f"{source!r} is a {type(source).__name__}: give task metadata, a mapping, or the path of a JSON file "
                "or of a run directory"
            )
        return TaskMetadata.from_metadata(source)
    except KeyError as error:  # a key that is not a text
        raise MetricComputationError(f"invalid metadata: {error.args[0]}") from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise MetricComputationError(f"invalid metadata: {error}") from error


def _of_path(source: Path | str) -> TaskMetadata:
    if not str(source):
        raise ValueError("the path is empty")
    path = Path(source)
    if path.is_dir() or path.name == "run.json":
        from runmem.store.run import each_record

        return metadata_from_records(each_record(path))
    try:
        return TaskMetadata.read(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a JSON file of task metadata: {error}") from error


def names_with(fragment: str, metadata: TaskMetadata, prefix: str = "") -> list[str]:
    """Return the full names of scalars and arrays of all levels that contain `fragment`."""
    scalars, arrays, below = metadata.scalars, metadata.arrays, metadata.metadata
    found = [*_fitting(fragment, prefix, (*scalars, *arrays))] if scalars or arrays else []
    if below:
        for name, nested in below.items():
            found += names_with(fragment, nested, f"{prefix}{name}.")
    return found


@lru_cache(maxsize=64)
def _fitting(fragment: str, prefix: str, names: tuple[str, ...]) -> list[str]:
    """Return the full names of one level that contain `fragment`, cached for equal metadata of a million quanta."""
    last = fragment.rpartition(".")[2]  # part of a single name, so that few full names have to be made
    likely = names if last in prefix else [name for name in names if last in name]
    return [prefix + name for name in likely if fragment in prefix + name]
