"""Measurements are stored as `lsst.verify`'s own where that is installed, and read from there.

`lsst.verify` is not on the package index. So these tests use a module of this name with as much of its interface as is
needed, written from its documentation.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lsst.ctrl.mpexec", reason="the LSST packages are not installed: pip install 'runmem[lsst]'")
pytest.importorskip("astropy", reason="measurements of lsst.verify have quantities of astropy")

HERE = Path(__file__).parent
INTERFACE = """
import uuid

import astropy.units as u
import yaml


class Datum:
    def __init__(self, quantity=None, unit=None, label=None, description=None):
        self.quantity, self.unit, self.label, self.description = quantity, unit, label, description

    @property
    def json(self):
        return {"value": self.quantity, "unit": self.unit or "", "label": self.label, "description": self.description}

    @classmethod
    def deserialize(cls, label=None, description=None, value=None, unit=None):
        return cls(value, unit, label, description)


class Blob(dict):
    def __init__(self, name):
        self.name, self.identifier = name, uuid.uuid4().hex

    @property
    def json(self):
        return {"identifier": self.identifier, "name": self.name, "data": {k: d.json for k, d in self.items()}}


class Notes(dict):
    def __init__(self, metric):
        self.prefix = metric + "."

    def __setitem__(self, key, value):
        super().__setitem__(self.prefix + key, value)

    def __getitem__(self, key):
        return super().__getitem__(self.prefix + key)


class Measurement:
    def __init__(self, metric, quantity=None, blobs=None, extras=None, notes=None):
        self.metric_name, self.identifier = metric, uuid.uuid4().hex
        if not isinstance(quantity, u.Quantity):
            raise TypeError(quantity)
        self.quantity, self.extras, self.notes = quantity, Blob(metric), Notes(metric)
        self.extras.update(extras or {})
        self.blobs = {metric: self.extras, **{blob.name: blob for blob in blobs or ()}}
        for key, value in (notes or {}).items():
            self.notes[key] = value

    @property
    def json(self):
        return {
            "metric": self.metric_name, "identifier": self.identifier, "value": float(self.quantity.value),
            "unit": str(self.quantity.unit), "blob_refs": [b.identifier for b in self.blobs.values() if len(b)],
        }


def represent(dumper, measurement):
    document = {**measurement.json, "notes": dict(measurement.notes), "extras": measurement.extras.json["data"]}
    return dumper.represent_mapping("lsst.verify.Measurement", document)


def construct(loader, node):
    document = loader.construct_mapping(node, deep=True)
    prefix = document["metric"] + "."
    found = Measurement(
        document["metric"], u.Quantity(document["value"], document["unit"]),
        extras={name: Datum.deserialize(**datum) for name, datum in document["extras"].items()},
        notes={key.removeprefix(prefix): value for key, value in document["notes"].items()},
    )
    found.identifier = document["identifier"]
    return found


yaml.add_representer(Measurement, represent)
for loader in (yaml.SafeLoader, yaml.FullLoader, yaml.UnsafeLoader):
    yaml.add_constructor("lsst.verify.Measurement", construct, Loader=loader)
"""
PROGRAM = """
import sys

import repository
from lsst.daf.butler import Butler
from lsst.pipe.base import Pipeline
from lsst.pipe.base.separable_pipeline_executor import SeparablePipelineExecutor

from runmem.lsst import LsstButler, MemoryMetricTask
from runmem.verify import Job, Measurement

root = sys.argv[1]
repository.make_repository(root, visits=(1,), sizes={0: 5, 1: 6})
executor, graph = repository.executor_and_graph(root, "output")
executor.run_pipeline(graph)

pipeline = Pipeline("metrics")
pipeline.addTask("runmem.lsst.TimingMetricTask", "wall")
for name, value in {
    "connections.package": "demo", "connections.metric": "Wall", "connections.labelName": "scale",
    "target": "scale.run",
}.items():
    pipeline.addConfigOverride("wall", name, value)
butler = Butler.from_config(root, writeable=True, collections=["output"], run="metrics")
executor = SeparablePipelineExecutor(butler)
graph = executor.build_quantum_graph(pipeline)
executor.pre_execute_qgraph(graph, register_dataset_types=True, save_versions=False)
executor.run_pipeline(graph)

config = MemoryMetricTask.ConfigClass()
config.connections.package, config.connections.metric, config.connections.labelName = "demo", "Memory", "scale"
config.target = "scale.run"
ours = LsstButler(Butler.from_config(root, writeable=True, collections=["metrics", "output"], run="metrics"))
results = MemoryMetricTask(config=config).runFromButler(ours)
assert [result.error for result in results] == [None, None], results

import lsst.verify

plain = Butler.from_config(root, collections=["metrics"])
for name, unit in (("Wall", "s"), ("Memory", "byte")):
    assert plain.get_dataset_type(f"metricvalue_demo_{name}").storageClass_name == "MetricValue"
    (data_id, _) = ours.dataIds(f"metricvalue_demo_{name}")
    stored, back = (b.get(f"metricvalue_demo_{name}", data_id) for b in (plain, ours))
    assert type(stored) is lsst.verify.Measurement
    assert type(back) is Measurement
    assert (str(stored.metric_name), stored.quantity.unit) == (f"demo.{name}", unit)
    assert back.value == stored.quantity.value
    assert back.notes["estimator"] == stored.notes["estimator"] == "utils.timer.timeMethod"
    if name == "Wall":
        assert back.extras["start"].value == stored.extras["start"].quantity
    job = Job()
    job.insert(stored)
    assert job[f"demo.{name}"] == back
    assert job[f"demo.{name}"].identifier == stored.identifier
    assert Job.deserialize(**job.json)[f"demo.{name}"] == back

assert MemoryMetricTask(config=config).runFromButler(ours)[0].error is None  # again, into the same run
theirs = lsst.verify.Measurement("demo.Theirs", 5 * stored.quantity.unit, notes={"a": 1})
ours.put(theirs, "metricvalue_demo_Theirs", data_id)
assert plain.get("metricvalue_demo_Theirs", data_id).notes["a"] == 1
print("all is well")
"""


@pytest.mark.slow
def test_where_lsst_verify_is_installed_its_own_reporters_read_what_is_stored(tmp_path):
    package = tmp_path / "installed" / "lsst"
    (package / "verify").mkdir(parents=True)
    (package / "__init__.py").write_text("__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n")
    (package / "verify" / "__init__.py").write_text(INTERFACE)
    (tmp_path / "program.py").write_text(PROGRAM)
    path = os.pathsep.join([str(package.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "program.py", str(tmp_path / "repo")], cwd=tmp_path, capture_output=True, text=True,
        timeout=240, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.stdout == "all is well\n", done.stderr
