"""A real Butler with a SQLite registry, filled by a real pipeline: our metric task reads metadata and puts values."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("lsst.ctrl.mpexec", reason="the LSST packages are not installed: pip install 'runmem[lsst]'")
sys.path.insert(0, str(Path(__file__).parent))

import lsst.pipe.base  # noqa: E402
import repository  # noqa: E402
from lsst.daf.butler import Butler, DatasetType  # noqa: E402

from runmem.lsst import LsstButler  # noqa: E402
from runmem.metrics.from_butler import runFromButler  # noqa: E402
from runmem.metrics.memory_metric import MemoryMetricConfig, MemoryMetricTask  # noqa: E402
from runmem.pipe_base.butler import Butler as ButlerProtocol  # noqa: E402
from runmem.pipe_base.butler import ButlerError, DatasetNotFoundError, FolderButler  # noqa: E402
from runmem.pipe_base.errors import NoWorkFound  # noqa: E402
from runmem.pipe_base.metadata import TaskMetadata  # noqa: E402
from runmem.verify.job import Job  # noqa: E402
from runmem.verify.measurement import Measurement  # noqa: E402


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("repository") / "repo")
    return repository.make_processed(root, visits=(1,), sizes={0: 30, 1: 20})


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
    assert isinstance(missing.error, DatasetNotFoundError)


def test_a_type_that_is_registered_for_lsst_verify_is_refused_with_a_remedy(processed):
    butler = butler_of(processed)
    dimensions = butler.butler.dimensions.conform(["instrument", "visit", "detector"])
    taken = DatasetType("metricvalue_demo_Taken", dimensions, "MetricValue")
    butler.butler.registry.registerDatasetType(taken)
    with pytest.raises(ButlerError, match=r"MetricValue; .*another name"):
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


def test_an_interrupted_pass_can_be_repeated_and_another_value_is_not_overwritten(processed, monkeypatch):
    butler = butler_of(processed, "interrupted")
    put = butler.butler.put
    monkeypatch.setattr(butler.butler, "put", lambda *args, **more: (put(*args, **more), signal.raise_signal(2)))
    with pytest.raises(KeyboardInterrupt):
        runFromButler(memory_task("scale", "scale.run", "Again"), butler)
    monkeypatch.undo()
    results = runFromButler(memory_task("scale", "scale.run", "Again"), butler)
    assert [result.error for result in results] == [None, None]
    other = Measurement("demo.Again", results[0].measurement.value + 1, "byte")
    with pytest.raises(
        ButlerError, match="the run interrupted has metricvalue_demo_Again .* already: .* Use a new run"
    ):
        butler.put(other, "metricvalue_demo_Again", results[0].dataId)


def test_a_pass_whose_measurements_have_a_name_of_ones_own_can_be_repeated(processed):
    task = memory_task("scale", "scale.run", "Named")
    task.config.connections.measurement = "{metric}_of_scale"
    butler = butler_of(processed, "named")
    for _ in range(2):
        assert [result.error for result in runFromButler(task, butler)] == [None, None]


def test_a_data_id_that_fails_in_any_way_does_not_keep_another_from_being_measured(processed, tmp_path):
    class Failing(MemoryMetricTask):
        failures = iter([ZeroDivisionError("odd"), lsst.pipe.base.NoWorkFound("none")])

        def makeMeasurement(self, values):
            for error in self.failures:
                raise error
            return super().makeMeasurement(values)

    root = shutil.copytree(processed, tmp_path / "repo")
    butler = butler_of(str(root), "failing")
    data_ids = butler.dataIds("scale_metadata")
    path = Path(butler.butler.getURI("scale_metadata", data_ids[1]).ospath)
    path.write_bytes(path.read_bytes()[:50])
    nowhere = {"instrument": "Nope", "visit": 1, "detector": 1}
    wanted = [data_ids[0], data_ids[0], data_ids[1], nowhere, {"visit": 1}, data_ids[0]]
    results = runFromButler(Failing(memory_task("scale", "scale.run", "Failing").config), butler, wanted)
    kinds = [type(result.error).__name__ for result in results]
    assert kinds[:3] == ["ZeroDivisionError", "NoWorkFound", "ButlerError"]
    assert all(issubclass(type(result.error), ButlerError) for result in results[2:5])
    assert results[5].measurement is not None


@pytest.mark.parametrize("data_id", [{"instrument": "Nope", "visit": 1, "detector": 1}, {"visit": 1}, {"colour": 1}])
def test_every_error_of_the_butler_is_ours(processed, data_id):
    butler = butler_of(processed, "errors")

    def outcome(call, *arguments):
        try:
            return call(*arguments, data_id)
        except Exception as error:
            return error

    measurement = Measurement("demo.Errors", 1.0, "byte")
    for call, *arguments in (
        (butler.get, "scale_metadata"),
        (butler.put, TaskMetadata(), "scale_metadata"),
        (butler.put, measurement, "metricvalue_demo_Errors"),
        (butler.get, "never_registered"),
    ):
        error = outcome(call, *arguments)
        assert isinstance(error, ButlerError), error
        assert error.__cause__ is not None
    there = outcome(butler.exists, "scale_metadata")
    assert there is False or isinstance(there, ButlerError)
    read_only = LsstButler(Butler.from_config(processed, collections=["output"]))
    with pytest.raises(ButlerError):
        read_only.put(Measurement("demo.Errors", 1.0, "byte"), "metricvalue_demo_Errors", {"instrument": "Cam"})
