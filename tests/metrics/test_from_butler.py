"""A metric for each data id of a folder of datasets (of a real Butler: tests/lsst)."""

from __future__ import annotations

import logging

import pytest

from runmem.metrics.butler import ButlerError, DatasetNotFoundError, FolderButler
from runmem.metrics.errors import MetricComputationError, NoWorkFound
from runmem.metrics.from_butler import runFromButler
from runmem.metrics.job import Job
from runmem.metrics.memory_metric import MemoryMetricConfig, MemoryMetricTask
from runmem.metrics.metadata import TaskMetadata


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
