"""A real Butler with a SQLite registry, filled by a real pipeline: our metric task reads metadata and puts values."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("lsst.ctrl.mpexec", reason="the LSST packages are not installed: pip install 'runmem[lsst]'")
sys.path.insert(0, str(Path(__file__).parent))

import repository  # noqa: E402
from lsst.daf.butler import Butler, DatasetType  # noqa: E402

from runmem.lsst import LsstButler  # noqa: E402
from runmem.metrics.from_butler import runFromButler  # noqa: E402
from runmem.metrics.memory_metric import MemoryMetricConfig, MemoryMetricTask  # noqa: E402
from runmem.pipe_base.butler import Butler as ButlerProtocol  # noqa: E402
from runmem.pipe_base.butler import ButlerError, FolderButler  # noqa: E402
from runmem.pipe_base.errors import NoWorkFound  # noqa: E402
from runmem.pipe_base.metadata import TaskMetadata  # noqa: E402
from runmem.verify.job import Job  # noqa: E402
from runmem.verify.measurement import Measurement  # noqa: E402


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("repository") / "repo")
    repository.make_repository(root, visits=(1,), sizes={0: 30, 1: 20})
    executor, graph = repository.executor_and_graph(root, "output")
    executor.run_pipeline(graph)
    return root


def memory_task(label, target, metric="ScaleMemory"):
    config = MemoryMetricConfig()
    config.connections.package, config.connections.metric = "demo", metric
    config.connections.labelName = label
    config.target = target
    return MemoryMetricTask(config)


def butler_of(root, run="metrics"):
    return LsstButler(Butler.from_config(root, writeable=True, collections=["output"], run=run))


def test_both_butlers_fit_the_protocol(processed):
    assert isinstance(butler_of(processed), ButlerProtocol)
    assert isinstance(butler_of(processed).butler, ButlerProtocol)


def test_the_memory_of_real_quanta_is_read_and_put_back_for_each_data_id(processed):
    butler = butler_of(processed)
    results = runFromButler(memory_task("scale", "scale.run"), butler)
    assert [result.dataId["detector"] for result in results] == [0, 1]
    for result in results:
        metadata = butler.butler.get("scale_metadata", result.dataId)
        assert result.measurement.metric_name == "demo.ScaleMemory"
        measured = metadata["scale.runEndMaxResidentSetSize"]
        assert Job([result.measurement]).json["measurements"][0]["value"] == measured
        stored = butler.get("metricvalue_demo_ScaleMemory", result.dataId, collections="metrics")
        assert Job([stored]).json == Job([result.measurement]).json


def test_another_process_of_lsst_reads_the_stored_value_as_a_job(processed):
    butler = butler_of(processed, "metrics_as_job")
    (result, _) = runFromButler(memory_task("scale", "scale.run", "AsJob"), butler)
    plain = Butler.from_config(processed, collections=["metrics_as_job"])
    assert plain.get_dataset_type("metricvalue_demo_AsJob").storageClass_name == "StructuredDataDict"
    found = plain.get("metricvalue_demo_AsJob", result.dataId)
    assert found == Job([result.measurement]).json


def test_what_a_task_did_not_write_is_no_work_for_that_data_id_only(processed):
    results = runFromButler(memory_task("add", "add.other", "Other"), butler_of(processed, "metrics_other"))
    assert [type(result.error) for result in results] == [NoWorkFound]
    assert results[0].measurement is None
    assert runFromButler(memory_task("unknown", "x", "Unknown"), butler_of(processed)) == []
    (missing,) = runFromButler(
        memory_task("scale", "scale.run", "Missing"),
        butler_of(processed),
        [{"instrument": "Cam", "visit": 1, "detector": 1, "skymap": None} | {"visit": 99}],
    )
    assert isinstance(missing.error, LookupError)


def test_a_type_that_is_registered_for_lsst_verify_is_refused_with_a_remedy(processed):
    butler = butler_of(processed)
    dimensions = butler.butler.dimensions.conform(["instrument", "visit", "detector"])
    taken = DatasetType("metricvalue_demo_Taken", dimensions, "MetricValue")
    butler.butler.registry.registerDatasetType(taken)
    with pytest.raises(ButlerError, match="MetricValue; .*another name"):
        runFromButler(memory_task("scale", "scale.run", "Taken"), butler)


def test_metadata_and_jobs_go_to_a_real_repository_and_come_back(processed):
    butler = butler_of(processed, "ours")
    data_id = {"instrument": "Cam", "visit": 1, "detector": 0}
    metadata = TaskMetadata.from_dict({"demo.runEndMaxResidentSetSize": [1, 2], "a": float("inf")})
    dimensions = butler.butler.dimensions.conform(data_id)
    butler.butler.registry.registerDatasetType(DatasetType("ours_metadata", dimensions, "TaskMetadata"))
    butler.put(metadata, "ours_metadata", data_id)
    assert butler.get("ours_metadata", data_id, collections="ours") == metadata
    assert type(butler.butler.get("ours_metadata", data_id, collections="ours")).__module__.startswith("lsst.")
    job = Job([Measurement("demo.A", 1.0, "byte"), Measurement("demo.B", 2.0, "byte")])
    butler.put(job, "demo_job", data_id)
    assert butler.get("demo_job", data_id, collections="ours").json == job.json
    assert butler.exists("demo_job", data_id, collections="ours")
    assert not butler.exists("demo_job", {**data_id, "detector": 1}, collections="ours")
    assert not butler.exists("never_registered", data_id)


def test_real_metadata_and_data_ids_go_into_a_folder_of_files(processed, tmp_path):
    source, folder = butler_of(processed), FolderButler(tmp_path)
    for ref in source.butler.query_datasets("scale_metadata"):
        folder.put(source.butler.get(ref), "scale_metadata", ref.dataId)
    assert [data_id["detector"] for data_id in folder.dataIds("scale_metadata")] == [0, 1]
    ours, theirs = (
        runFromButler(memory_task("scale", "scale.run", "Folder"), butler)
        for butler in (folder, butler_of(processed, "metrics_folder"))
    )
    values = [[Job([r.measurement]).json["measurements"][0]["value"] for r in results] for results in (ours, theirs)]
    assert values[0] == values[1]
    assert len(values[0]) == 2
