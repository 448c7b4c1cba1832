"""A metric for each data id of a folder of datasets (of a real Butler: tests/lsst)."""

from __future__ import annotations

import logging

import pytest

from runmem.errors import SettingError
from runmem.metrics.from_butler import runFromButler
from runmem.metrics.memory_metric import MemoryMetricConfig, MemoryMetricTask
from runmem.pipe_base.butler import ButlerError, DatasetNotFoundError, FolderButler
from runmem.pipe_base.errors import MetricComputationError, NoWorkFound
from runmem.pipe_base.metadata import TaskMetadata
from runmem.verify.job import Job
from runmem.verify.measurement import Measurement


@pytest.fixture
def task():
    config = MemoryMetricConfig()
    config.connections.package, config.connections.metric, config.connections.labelName = "demo", "Peak", "isr"
    config.target = "isr.run"
    return MemoryMetricTask(config)


def metadata(peak):
    return TaskMetadata.from_dict({"isr.runEndMaxResidentSetSize": [peak], "isr.__version__": 1})


def value(measurement):
    return Job([measurement]).json["measurements"][0]["value"]


def test_each_data_id_gets_its_measurement(tmp_path, task):
    butler = FolderButler(tmp_path)
    for visit in (1, 2):
        butler.put(metadata(visit * 1000), "isr_metadata", visit=visit)
    results = runFromButler(task, butler)
    assert [(result.dataId, value(result.measurement), result.error) for result in results] == [
        ({"visit": 1}, 1000, None), ({"visit": 2}, 2000, None),
    ]  # fmt: skip
    assert value(butler.get("metricvalue_demo_Peak", visit=2)) == 2000
    assert butler.dataIds("metricvalue_demo_Peak") == [{"visit": 1}, {"visit": 2}]


def test_one_data_id_does_not_keep_another_from_being_measured(tmp_path, task, caplog):
    butler = FolderButler(tmp_path)
    butler.put(metadata(1000), "isr_metadata", visit=1)
    butler.put(TaskMetadata.from_dict({"isr.runEndMaxResidentSetSize": ["much"]}), "isr_metadata", visit=2)
    butler.put(TaskMetadata.from_dict({"other": 1}), "isr_metadata", visit=3)
    with caplog.at_level(logging.INFO):
        results = runFromButler(task, butler, [{"visit": visit} for visit in (4, 3, 2, 1)])
    kinds = [DatasetNotFoundError, NoWorkFound, MetricComputationError, type(None)]
    assert [type(result.error) for result in results] == kinds
    assert [result.measurement is None for result in results] == [True, True, True, False]
    assert [(record.levelname, record.args[1]) for record in caplog.records] == [
        ("ERROR", {"visit": 4}), ("INFO", {"visit": 3}), ("ERROR", {"visit": 2}),
    ]  # fmt: skip
    assert butler.dataIds("metricvalue_demo_Peak") == [{"visit": 1}]


def test_the_task_itself_can_be_run_on_a_butler(tmp_path, task):
    butler = FolderButler(tmp_path)
    butler.put(metadata(1000), "isr_metadata", visit=1)
    butler.put(metadata(2000), "isr_metadata", visit=2)
    assert [value(result.measurement) for result in task.runFromButler(butler)] == [1000, 2000]
    assert [result.dataId for result in task.runFromButler(butler, [{"visit": 2}])] == [{"visit": 2}]


def test_a_task_that_makes_no_measurement_stores_none(tmp_path, task):
    class Nothing(MemoryMetricTask):
        def makeMeasurement(self, values):
            return None

    butler = FolderButler(tmp_path)
    butler.put(metadata(1000), "isr_metadata", visit=1)
    (result,) = runFromButler(Nothing(task.config), butler)
    assert isinstance(result.error, NoWorkFound)
    assert butler.dataIds("metricvalue_demo_Peak") == []


def test_missing_metadata_raise(tmp_path, task, caplog):
    assert runFromButler(task, FolderButler(tmp_path)) == []
    assert "there is no isr_metadata in FolderButler" in caplog.text
    task.config.connections.labelName = ""
    with pytest.raises(SettingError, match="connections.labelName is empty"):
        runFromButler(task, FolderButler(tmp_path))


@pytest.mark.parametrize(("number", "message"), [(None, "has no value"), (float("nan"), "is nan")])
def test_a_measurement_without_a_number_is_not_stored(tmp_path, number, message):
    with pytest.raises(ButlerError, match=message):
        FolderButler(tmp_path).put(Measurement("demo.Peak", number), "metricvalue_demo_Peak", visit=1)
    assert not list(tmp_path.rglob("*.json"))


def test_a_butler_that_cannot_list_data_ids_needs_them(task):
    class Bare:
        def get(self, name, data_id):
            return metadata(5000)

        def put(self, obj, name, data_id):
            self.stored = name, data_id, value(obj)

    butler = Bare()
    with pytest.raises(ButlerError, match="give dataIds="):
        runFromButler(task, butler)
    runFromButler(task, butler, [{"visit": 7}])
    assert butler.stored == ("metricvalue_demo_Peak", {"visit": 7}, 5000)
