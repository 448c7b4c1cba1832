"""The metric tasks as tasks of real pipelines, by the library and with `pipetask run`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lsst.ctrl.mpexec", reason="the LSST packages are not installed: pip install 'runmem[lsst]'")
sys.path.insert(0, str(Path(__file__).parent))

import lsst.pipe.base  # noqa: E402
import repository  # noqa: E402
from lsst.daf.butler import Butler  # noqa: E402
from lsst.pipe.base import Pipeline  # noqa: E402
from lsst.pipe.base.separable_pipeline_executor import SeparablePipelineExecutor  # noqa: E402
from lsst.pipe.base.testUtils import assertValidOutput  # noqa: E402

from runmem.errors import RunmemError  # noqa: E402
from runmem.lsst import (  # noqa: E402
    CpuTimingMetricTask,
    LsstButler,
    MemoryMetricTask,
    MetadataMetricTask,
    NoWorkFound,
    TimingMetricTask,
)
from runmem.metrics import runFromButler  # noqa: E402
from runmem.pipe_base.errors import MetricComputationError  # noqa: E402
from runmem.pipe_base.errors import NoWorkFound as OurNoWorkFound  # noqa: E402
from runmem.verify import Measurement  # noqa: E402


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    root = str(tmp_path_factory.mktemp("repository") / "repo")
    return repository.make_processed(root, visits=(1,), sizes={0: 30, 1: 20})


def config_of(kind, label="scale", metric="Memory", target="scale.run"):
    config = kind.ConfigClass()
    config.connections.package, config.connections.metric, config.connections.labelName = "demo", metric, label
    config.target = target
    return config


def metadata(**items):
    found = lsst.pipe.base.TaskMetadata()
    for key, value in {"scale.run" + key: value for key, value in items.items()}.items():
        found[key] = value
    found["scale.__version__"] = 1
    return found


def run(root, pipeline, output):
    butler = Butler.from_config(root, writeable=True, collections=["output"], run=output)
    executor = SeparablePipelineExecutor(butler)
    graph = executor.build_quantum_graph(pipeline)
    executor.pre_execute_qgraph(graph, register_dataset_types=True, save_versions=False)
    executor.run_pipeline(graph)
    return LsstButler(Butler.from_config(root, collections=[output]))


def add(pipeline, name, kind, metric, label="scale", target="scale.run", **more):
    pipeline.addTask(f"runmem.lsst.{kind}", name)
    overrides = {"connections.package": "demo", "connections.metric": metric, "connections.labelName": label}
    for field, value in {**overrides, "target": target, **more}.items():
        pipeline.addConfigOverride(name, field, value)


def test_metric_tasks_of_a_pipeline_measure_each_quantum(processed):
    pipeline = Pipeline("metrics")
    add(pipeline, "memory", "MemoryMetricTask", "PipelineMemory")
    add(pipeline, "wall", "TimingMetricTask", "PipelineTime")
    add(pipeline, "cpu", "CpuTimingMetricTask", "PipelineCpu")
    dimensions = ["instrument", "visit"]
    add(pipeline, "of_visit", "MemoryMetricTask", "AddMemory", "add", "add.run", metadataDimensions=dimensions)
    butler = run(processed, pipeline, "pipeline_metrics")
    plain = Butler.from_config(processed, collections=["output"])
    for data_id in butler.dataIds("metricvalue_demo_PipelineMemory"):
        quantum = plain.get("scale_metadata", data_id)
        stored = butler.get("metricvalue_demo_PipelineMemory", data_id)
        assert stored.value == max(quantum.getArray("scale.runEndMaxResidentSetSize"))
        wall, cpu = (butler.get(f"metricvalue_demo_Pipeline{what}", data_id) for what in ("Time", "Cpu"))
        assert cpu.value > 0
        assert wall.extras["start"].value == quantum["scale.runStartUtc"]
    assert len(butler.dataIds("metricvalue_demo_PipelineMemory")) == 2
    assert butler.dataIds("metricvalue_demo_AddMemory") == [{"instrument": "Cam", "visit": 1}]


def test_a_quantum_with_nothing_to_measure_or_malformed_metadata_stores_nothing(processed, tmp_path, caplog):
    root = str(shutil.copytree(processed, tmp_path / "repo"))
    butler = Butler.from_config(root, collections=["output"])
    ref = butler.query_datasets("scale_metadata", where="detector = 0", instrument="Cam")[0]
    path = Path(butler.getURI(ref).ospath)
    same_size = re.sub(r'("runEndMaxResidentSetSize":\s*\[)\d', r"\1-", path.read_text())
    path.write_text(same_size)
    pipeline = Pipeline("metrics")
    add(pipeline, "memory", "MemoryMetricTask", "Odd")
    add(pipeline, "nothing", "MemoryMetricTask", "Nothing", target="scale.other")
    stored = run(root, pipeline, "odd")
    assert [data_id["detector"] for data_id in stored.dataIds("metricvalue_demo_Odd")] == [1]
    assert stored.dataIds("metricvalue_demo_Nothing") == []
    assert "is not a size of memory" in caplog.text


@pytest.mark.slow
def test_pipetask_runs_them_from_a_pipeline_file(processed, tmp_path):
    root = shutil.copytree(processed, tmp_path / "repo")
    (tmp_path / "override.py").write_text("config.target = 'scale.run'\nconfig.connections.labelName = 'scale'\n")
    (tmp_path / "metrics.yaml").write_text(
        "description: metrics\n"
        "tasks:\n"
        "  memory:\n"
        "    class: runmem.lsst.MemoryMetricTask\n"
        "    config:\n"
        "      connections.package: demo\n"
        "      connections.metric: FromFile\n"
        "      file: override.py\n"
    )
    command = [
        Path(sys.executable).with_name("pipetask"), "run", "-b", root, "-p", "metrics.yaml", "-i", "output",
        "-o", "u/me", "-c", "memory:saveLogOutput=False", "--register-dataset-types",
    ]  # fmt: skip
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [str(word) for word in command], cwd=tmp_path, capture_output=True, text=True, timeout=240,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    butler = LsstButler(Butler.from_config(str(root), collections=["u/me"]))
    assert len(butler.dataIds("metricvalue_demo_FromFile")) == 2


def test_they_run_on_a_butler_without_a_pipeline_too(processed):
    task = MemoryMetricTask(config_of(MemoryMetricTask, metric="Direct"))
    butler = LsstButler(Butler.from_config(processed, writeable=True, collections=["output"], run="direct"))
    assert [result.error for result in runFromButler(task, butler)] == [None, None]
    assert [result.error for result in task.runFromButler(butler)] == [None, None]  # again, into the same run


@pytest.mark.parametrize("kind", [MemoryMetricTask, TimingMetricTask, CpuTimingMetricTask])
def test_errors_and_results_are_those_of_both(kind):
    task = kind(config=config_of(kind))
    with pytest.raises(NoWorkFound) as caught:
        task.run(metadata())
    assert isinstance(caught.value, (lsst.pipe.base.NoWorkFound, OurNoWorkFound))
    assert isinstance(caught.value, RunmemError)
    with pytest.raises(MetricComputationError):
        task.run(metadata(EndMaxResidentSetSize=[-1], EndUtc=["noon"], EndCpuTime=["much"], StartUtc=["morning"]))
    result = task.run(metadata(
        EndMaxResidentSetSize=[5], StartCpuTime=[1.0], EndCpuTime=[2.0],
        StartUtc=["2026-08-01T12:00:00"], EndUtc=["2026-08-01T12:00:01"],
    ))  # fmt: skip
    assert isinstance(result, lsst.pipe.base.Struct)
    assert isinstance(result.measurement, Measurement)
    assertValidOutput(task, result)


@pytest.mark.parametrize(("part", "value"), [("metric", "a.b"), ("package", "a b"), ("package", None)])
def test_a_configuration_is_checked_and_has_the_methods_of_lsst(part, value, tmp_path):
    config = config_of(MemoryMetricTask)
    assert config.metricName == "demo.Memory"
    config.save(str(tmp_path / "config.py"))
    again = MemoryMetricTask.ConfigClass()
    again.load(str(tmp_path / "config.py"))
    assert again.compare(config)
    config.connections.update(**{part: value or ""})
    with pytest.raises(ValueError, match=part):
        MemoryMetricTask(config=config)


def test_a_metric_of_ones_own_in_a_pipeline_has_its_dimensions():
    class FaultsTask(MetadataMetricTask):
        _DefaultName = "faults"

        @classmethod
        def getInputMetadataKeys(cls, config):
            return {"faults": "runEndMajorPageFaults"}

        def makeMeasurement(self, values):
            if values["faults"] is None:
                raise lsst.pipe.base.NoWorkFound("none were counted")
            return Measurement(self.config.metricName, values["faults"], "")

    config = FaultsTask.ConfigClass()
    config.connections.package, config.connections.metric, config.connections.labelName = "demo", "Faults", "scale"
    config.metadataDimensions = ["instrument", "exposure"]
    task = FaultsTask(config=config)
    connections = config.ConnectionsClass(config=config)
    assert connections.metadata.name == "scale_metadata"
    for named in (connections, connections.metadata, connections.measurement):
        assert set(named.dimensions) == {"instrument", "exposure"}
    assert task.run(metadata(EndMajorPageFaults=[3])).measurement.value == 3
    with pytest.raises(lsst.pipe.base.NoWorkFound, match="none were counted"):
        task.run(metadata())
