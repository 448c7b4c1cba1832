"""A real Butler repository with a SQLite registry, and quantum graphs on it."""

from __future__ import annotations

import sys
from pathlib import Path

from lsst.daf.butler import Butler, DatasetType
from lsst.pipe.base import Pipeline
from lsst.pipe.base.separable_pipeline_executor import SeparablePipelineExecutor

HERE = str(Path(__file__).parent)
if HERE not in sys.path:  # pipelines name their task classes: they must be importable
    sys.path.insert(0, HERE)

SIZES = {0: 200, 1: 20, 2: 60, 3: 20}
VISITS = (1, 2)


def make_repository(root, visits=VISITS, sizes=None):
    """Make a repository at `root`: a number of each detector of each visit, which says how many MiB to touch."""
    sizes = SIZES if sizes is None else sizes
    Butler.makeRepo(root)
    butler = Butler.from_config(root, writeable=True, run="input")
    insert = butler.registry.insertDimensionData
    insert("instrument", {"name": "Cam", "visit_max": 100, "exposure_max": 100, "detector_max": 100})
    insert("physical_filter", {"instrument": "Cam", "name": "r1", "band": "r"})
    insert("day_obs", {"instrument": "Cam", "id": 20260801})
    for detector in sizes:
        insert("detector", {"instrument": "Cam", "id": detector, "full_name": f"R{detector}"})
    dimensions = butler.dimensions.conform(["instrument", "visit", "detector"])
    butler.registry.registerDatasetType(DatasetType("number", dimensions, "StructuredDataDict"))
    for visit in visits:
        insert("visit", {
            "instrument": "Cam", "id": visit, "name": str(visit), "physical_filter": "r1", "day_obs": 20260801,
        })  # fmt: skip
        for detector, mebibytes in sizes.items():
            insert("visit_detector_region", {"instrument": "Cam", "visit": visit, "detector": detector})
            value = {"value": 10 * visit + detector, "mebibytes": mebibytes}
            butler.put(value, "number", instrument="Cam", visit=visit, detector=detector)
    return root


def make_processed(root, visits, sizes):
    """Make a repository at `root` whose quanta ran one after the other in this process, in the run ``output``."""
    make_repository(root, visits, sizes)
    executor, graph = executor_and_graph(root, "output")
    executor.run_pipeline(graph)
    return root


def executor_and_graph(root, run, old=False, again=False, **config):
    """Return LSST's executor writing to `run`, and the quantum graph of the pipeline with the scale task's `config`.

    `again`: `run` is there, and what it lacks is to be made.
    """
    butler = Butler.from_config(root, writeable=True, collections=["input"], run=run)
    executor = SeparablePipelineExecutor(butler, clobber_output=again, skip_existing_in=[run] if again else None)
    pipeline = Pipeline("scale the numbers and add them up")
    pipeline.addTask("pipeline_tasks.ScaleTask", "scale")
    for name, value in config.items():
        pipeline.addConfigOverride("scale", name, value)
    pipeline.addTask("pipeline_tasks.AddTask", "add")
    graph = executor.make_quantum_graph(pipeline) if old else executor.build_quantum_graph(pipeline)
    if not again:
        executor.pre_execute_qgraph(graph, register_dataset_types=True, save_versions=False)
    return executor, graph


def datasets(root, run):
    """Return all that a run holds: type and data id to content."""
    butler = Butler.from_config(root, collections=[run])
    return {
        (dataset_type.name, *sorted(dict(ref.dataId.required).items())): butler.get(ref)
        for dataset_type in butler.registry.queryDatasetTypes()
        for ref in butler.query_datasets(dataset_type, collections=[run], explain=False)
    }
