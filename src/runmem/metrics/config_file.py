"""Read configurations of metric tasks from a YAML file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from runmem.errors import SettingError
from runmem.metrics.memory_metric import MemoryMetricTask
from runmem.metrics.metric_task import MetadataMetricTask
from runmem.metrics.timing_metric import CpuTimingMetricTask, TimingMetricTask
from runmem.reading import JsonObject
from runmem.verify.yaml_file import read_documents

__all__ = ["TASKS", "read_metric_tasks"]

log = logging.getLogger(__name__)

TASKS: dict[str, type[MetadataMetricTask]] = {
    task.__name__: task for task in (MemoryMetricTask, TimingMetricTask, CpuTimingMetricTask)
}
"""Last part of the ``class`` in a pipeline file to the metric task."""

Configuration: TypeAlias = tuple[str, type[MetadataMetricTask], Mapping[str, object]]

_CONNECTION_OPTIONS = ("package", "metric", "labelName", "metadata", "measurement")
_TASK_OPTIONS = ("target", "metadataDimensions", "saveLogOutput", "saveMetadata")


def read_metric_tasks(path: Path | str) -> list[MetadataMetricTask]:
    """Return the metric tasks that a YAML file configures.

    Raises SettingError if the file cannot be read, or a configuration is not valid; with the file and the key.

    Parameters
    ----------
    path : path
        A configuration; a list of them; or a pipeline of ``pipetask``, whose ``tasks`` are configurations with a
        ``class`` (only its last part matters, as in ``lsst.verify.tasks.MemoryMetricTask``). A configuration has
        ``target`` and, below ``connections`` or as ``connections.package``, the names ``package`` and ``metric``, and
        ``labelName`` or, in the older form, ``metadata``. The default class is ``MemoryMetricTask``.
    """
    tasks = []
    for label, task_class, content in _configurations(Path(path)):
        config = task_class.ConfigClass()
        options = list(_flat(content, f"{path}: {label}"))
        keys = [key for key, _ in options]
        if repeated := next((key for key in keys if keys.count(key) > 1), None):
            raise SettingError(f"{path}: {label}: {repeated} is given twice")
        try:
            for key, value in options:
                owner, name = (config.connections, key.removeprefix("connections.")) if "." in key else (config, key)
                setattr(owner, name, value)
            tasks.append(task_class(config=config))
        except SettingError as error:
            raise SettingError(f"{path}: {label}: {error}") from error
    if not tasks:
        raise SettingError(f"{path} configures no metric")
    return tasks


def _configurations(path: Path) -> Iterator[Configuration]:
    """Yield label, class and content of each configuration of the file."""
    number = 0
    for document in read_documents(path):
        if isinstance(document, Mapping) and "tasks" in document:
            tasks = document["tasks"]
            if not isinstance(tasks, Mapping):
                raise SettingError(f"{path}: tasks is {tasks!r}: expected a label and a configuration each")
            if unread := [key for key in ("imports", "parameters") if document.get(key)]:
                log.warning("%s: only the tasks are read, not: %s", path, ", ".join(unread))
            for label, task in tasks.items():
                yield from _of_pipeline(path, str(label), task)
            continue
        for content in document if isinstance(document, list) else [document]:
            number += 1
            if not isinstance(content, Mapping):
                raise SettingError(f"{path}: metric {number} is {content!r}: expected connections and target")
            name = content.get("class")
            yield f"metric {number}", _task_class(path, name), {k: v for k, v in content.items() if k != "class"}


def _of_pipeline(path: Path, label: str, task: object) -> Iterator[Configuration]:
    """Yield a task of a pipeline if it is a metric task."""
    if not isinstance(task, Mapping):  # `label: some.Task`, without a configuration
        if str(task).rpartition(".")[2] in TASKS:
            raise SettingError(f"{path}: {label}: {task} has no config: write connections and target")
        return
    if str(task.get("class", "")).rpartition(".")[2] not in TASKS:
        return
    configs = task.get("config") or {}
    merged: JsonObject = {}
    for config in configs if isinstance(configs, list) else [configs]:
        if not isinstance(config, Mapping):
            raise SettingError(f"{path}: {label}: config is {config!r}: expected names and values")
        for unusable in ("file", "python"):
            if unusable in config:
                raise SettingError(f"{path}: {label}: {unusable!r} in config is not supported: write the values")
        merged |= config
    yield label, _task_class(path, task["class"]), merged


def _task_class(path: Path, name: object) -> type[MetadataMetricTask]:
    if name is None:
        return MemoryMetricTask
    try:
        return TASKS[str(name).rpartition(".")[2]]
    except KeyError:
        raise SettingError(f"{path}: class {name!r} is unknown; there are {', '.join(TASKS)}") from None


def _flat(content: Mapping[str, object], place: str) -> Iterator[tuple[str, object]]:
    """Yield ``connections.<name>`` or the name of another option, and its value."""
    valid = [*(f"connections.{name}" for name in _CONNECTION_OPTIONS), *_TASK_OPTIONS]
    for key, value in content.items():
        if key == "connections":
            if not isinstance(value, Mapping):
                raise SettingError(f"{place}: connections is {value!r}: expected package, metric and labelName")
            pairs = [(f"connections.{name}", inner) for name, inner in value.items()]
        else:
            pairs = [(str(key), value)]
        for name, inner in pairs:
            if name not in valid:
                raise SettingError(f"{place}: unknown option {name!r}; there are {', '.join(valid)}")
            yield name, inner
