"""The metadata of all quanta of a real repository, which a real pipeline filled, by the library and the commands."""

from __future__ import annotations

import json
import os
import pty
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("lsst.ctrl.mpexec", reason="the LSST packages are not installed: pip install 'runmem[lsst]'")
sys.path.insert(0, str(Path(__file__).parent))

import repository  # noqa: E402
from lsst.daf.butler import Butler, CollectionType, DatasetType  # noqa: E402
from lsst.pipe.base.resource_usage import QuantumResourceUsage  # noqa: E402

from runmem.cli import metric, report  # noqa: E402
from runmem.errors import SettingError  # noqa: E402
from runmem.lsst import MetadataRepository  # noqa: E402
from runmem.pipe_base.butler import ButlerError  # noqa: E402
from runmem.verify.job import Job  # noqa: E402

SIZES = {0: 30, 1: 90, 2: 20}


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    """Return a repository whose quanta ran one after the other in this process."""
    root = str(tmp_path_factory.mktemp("repository") / "repo")
    return repository.make_processed(root, visits=(1, 2), sizes=SIZES)


@pytest.fixture
def own(processed, tmp_path):
    """Return a copy of the repository, to change it."""
    return shutil.copytree(processed, tmp_path / "repo")


def command(module, *arguments):
    return CliRunner().invoke(module.command, [str(argument) for argument in arguments], catch_exceptions=False)


def metadata_files(root, label):
    return sorted(path for path in Path(root, "output").rglob(f"{label}_metadata*.json"))


def test_the_numbers_are_those_of_lsst_for_each_quantum(processed):
    found = MetadataRepository(processed, ["output"])
    assert found.labels == ["add", "scale"]
    assert found.count() == 8
    progress = []
    add, scale = found.read(lambda done, total: progress.append((done, total)))
    assert progress[-1] == (8, 8)
    assert (add.executions, scale.executions) == (2, 6)
    butler = Butler.from_config(processed, collections=["output"])
    for usage in (add, scale):
        refs = butler.query_datasets(f"{usage.label}_metadata")
        theirs = [QuantumResourceUsage.from_task_metadata(butler.get(ref)) for ref in refs]
        peaks = usage.statistics([0, 2**50])
        assert max(p.max_bytes for p in peaks) == max(t.memory for t in theirs)
        assert min(p.min_bytes for p in peaks) == min(t.memory for t in theirs)
        hours = sum(t.total_time for t in theirs) / 3600
        assert sum(p.wall_hours for p in peaks) == pytest.approx(hours)
        assert sum(p.above[0].wall_hours for p in peaks) == pytest.approx(hours)
        assert all(p.above[1].executions == 0 for p in peaks)
    quanta = [butler.get(ref)["quantum"] for ref in butler.query_datasets("scale_metadata")]
    rose = sum(quantum["endMaxResidentSetSize"] > quantum["prepMaxResidentSetSize"] for quantum in quanta)
    kinds = {peaks.owner: peaks.executions for peaks in scale.statistics()}
    assert (kinds.get("own", 0), kinds["contaminated"]) == (rose, 6 - rose)  # at most the 90 MiB were a rise for all


@pytest.mark.slow
def test_tasks_on_workers_read_the_same(processed):
    here, there = (MetadataRepository(processed, ["output"]).read(workers=workers) for workers in (None, 2))
    assert [usage.as_dict([1]) for usage in here] == [usage.as_dict([1]) for usage in there]


def test_damaged_and_missing_metadata_are_counted_with_the_reason(own):
    torn, gone, odd, bare = metadata_files(own, "scale")[:4]
    torn.write_bytes(torn.read_bytes()[:100])
    gone.unlink()
    content = json.loads(odd.read_bytes())
    content["metadata"]["quantum"]["arrays"]["endMaxResidentSetSize"] = [-5]
    odd.write_text(json.dumps(content))
    bare.write_text('{"scalars": {}, "arrays": {}, "metadata": {}}')
    _, scale = MetadataRepository(str(own), ["output"]).read()
    assert (scale.executions, scale.damaged, scale.without_peak) == (6, 3, 1)
    assert sorted(str(path) in problem for path in (torn, gone, odd) for problem in scale.problems).count(True) == 3
    assert any("endMaxResidentSetSize = -5" in problem for problem in scale.problems)
    told = command(report, "--butler", own, "--collections", "output").output
    assert "scale: the metadata of 3 of 6 quanta cannot be read:" in told
    assert "scale: the metadata of 1 of 6 quanta have no peak" in told


def test_a_dataset_without_a_file_for_it_is_counted(own):
    butler = Butler.from_config(str(own), writeable=True, collections=["output"])
    ref = butler.query_datasets("scale_metadata")[0]
    butler._datastore.forget([ref])
    _, scale = MetadataRepository(str(own), ["output"]).read()
    assert (scale.executions, scale.damaged) == (6, 1)
    assert "scale_metadata" in scale.problems[0]


def test_metadata_in_another_form_are_read_by_the_butler(own):
    butler = Butler.from_config(str(own), writeable=True, collections=["output"], run="yaml")
    dimensions = butler.dimensions.conform(["instrument", "visit", "detector"])
    butler.registry.registerDatasetType(DatasetType("other_metadata", dimensions, "TaskMetadata"))
    ref = butler.query_datasets("scale_metadata")[0]
    put = butler.put(butler.get(ref), "other_metadata", ref.dataId)
    path = Path(butler.getURI(put).ospath)
    assert path.suffix == ".json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1).replace("\n", "\n "))
    zipped = butler.retrieve_artifacts_zip([put], destination=str(own.parent))
    butler.pruneDatasets([put], disassociate=True, unstore=True, purge=True)
    butler.ingest_zip(zipped)
    assert butler.getURI(put).fragment
    (other,) = MetadataRepository(str(own), ["yaml"]).read()
    assert (other.executions, other.damaged, other.problems) == (1, 0, [])
    assert other.statistics()[0].max_bytes == butler.get(ref)["quantum.endMaxResidentSetSize"]


def test_a_quantum_in_several_collections_counts_once_and_one_that_ran_again_twice(own):
    butler = Butler.from_config(str(own), writeable=True, collections=["output"])
    butler.collections.register("tagged", CollectionType.TAGGED)
    butler.registry.associate("tagged", butler.query_datasets("scale_metadata"))
    butler.collections.register("chain", CollectionType.CHAINED)
    butler.collections.redefine_chain("chain", ["tagged", "output"])
    executor, graph = repository.executor_and_graph(str(own), "again")
    executor.run_pipeline(graph)
    for collections, executions in ((["chain"], 6), (["output", "again"], 12), (["*"], 12)):
        found = MetadataRepository(str(own), collections, ["scale"]).read()
        assert [usage.executions for usage in found] == [executions]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--collections", "nope"], ButlerError, "no such collection: nope .* there are input, output"),
        ([], SettingError, "name the collections to read; in .* there are input, output"),
        (["--collections", "input"], SettingError, "input: there are no metadata of tasks in them"),
        (["--collections", "output", "--tasks", "isr"], SettingError, "task 'isr'; there are those of add, scale"),
        (["--collections", "output", "--threshold", "4 apples"], SettingError, "--threshold 4 apples: '4 apples'"),
        (["--collections", "output", "some_run"], SettingError, "the run some_run exclude each other"),
        (["--collections", "output", "--figure", "x.png"], SettingError, "--figure draws the traces of a run"),
    ],
)
def test_what_cannot_be_reported_is_an_error_with_the_remedy(processed, options, error, message):
    with pytest.raises(error, match=message):
        command(report, "--butler", processed, *options)


def test_a_repository_that_is_not_there_is_named():
    with pytest.raises(ButlerError, match="the repository /nowhere cannot be opened: FileNotFoundError"):
        command(report, "--butler", "/nowhere", "--collections", "output")


def test_a_damaged_registry_is_named(own):
    with closing(sqlite3.connect(own / "gen3.sqlite3")) as registry:
        registry.execute("DROP TABLE collection_chain")
    with pytest.raises(ButlerError, match=r"the repository .*repo cannot be read: OperationalError"):
        command(report, "--butler", own, "--collections", "output")


def test_a_dataset_type_with_such_a_name_and_other_content_is_left_out_and_told(own):
    butler = Butler.from_config(str(own), writeable=True, run="output")
    dimensions = butler.dimensions.conform(["instrument"])
    butler.registry.registerDatasetType(DatasetType("camera_metadata", dimensions, "StructuredDataDict"))
    butler.put({"a": 1}, "camera_metadata", instrument="Cam")
    told = command(report, "--butler", own, "--collections", "output").output
    assert "camera_metadata is not read: its storage class is StructuredDataDict" in told


def test_the_table_and_the_json_have_the_same_numbers(processed):
    options = ("--butler", processed, "--collections", "out*", "--tasks", "sc*", "--threshold", "1MiB,100GiB")
    told = command(report, *options).output
    document = json.loads(command(report, *options, "--json").output)
    assert document["collections"] == ["out*"]
    (scale,) = document["tasks"]
    assert [above["executions"] for peaks in scale["peaks"] for above in peaks["above"][1:]] == [0] * len(
        scale["peaks"]
    )
    assert sum(peaks["above"][0]["executions"] for peaks in scale["peaks"]) == 6
    header, *rows = told.splitlines()
    assert header.split()[:3] == ["Task", "Peaks", "Quanta"]
    assert "> 1.0 MiB" in header
    assert "> 100.0 GiB" in header
    for row, peaks in zip(rows, scale["peaks"], strict=False):
        assert row.split()[:3] == ["scale", peaks["owner"], str(peaks["executions"])]


def test_measurements_of_a_repository_are_a_job_that_specifications_judge(processed, tmp_path):
    path = tmp_path / "job.json"
    options = ("--butler", processed, "--collections", "output", "--package", "demo", "--output", path)
    passed = command(metric, *options, "--spec", "demo.ScaleMemory<100 GiB")
    assert passed.exit_code == 0, passed.output
    job = Job.load(path)
    usages = MetadataRepository(processed, ["output"]).read()
    assert job["demo.ScaleMemory"].value == usages[1].statistics()[0].max_bytes
    assert {"demo.AddMemory", "demo.ScaleMemoryP95", "demo.ScaleMemoryMedian"} <= set(job.metrics)
    assert command(metric, *options, "--tasks", "scale", "--spec", "demo.ScaleMemoryP95<1 KiB").exit_code == 3
    missing = command(metric, *options, "--spec", "demo.IsrMemory<1 TiB")
    assert missing.exit_code == 3
    assert "no metric has this name" in missing.output


def test_options_of_one_kind_of_source_are_refused_for_the_other(processed, tmp_path):
    for module, options, message in (
        (report, ["--collections", "x"], "--collections needs --butler"),
        (report, ["--threshold", "1GiB"], "--threshold needs --butler"),
        (report, [tmp_path, "--tasks", "isr"], "labels of tasks need --butler"),
        (metric, [tmp_path, "--workers", "2"], "--workers needs --butler"),
        (metric, [tmp_path, "--tasks", "isr"], "--tasks needs --butler"),
        (metric, ["--butler", processed, "--target", "x"], "omit RUN, --target"),
    ):
        with pytest.raises(SettingError, match=message):
            command(module, *options)


@pytest.mark.slow
def test_progress_is_shown_on_a_terminal_and_removed(processed):
    master, terminal = pty.openpty()
    arguments = ["report", "--butler", processed, "--collections", "output", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "runmem", *arguments], stdout=subprocess.PIPE, stderr=terminal, timeout=120
    )
    os.close(terminal)
    shown = os.read(master, 100_000)
    os.close(master)
    assert done.returncode == 0, shown
    assert len(json.loads(done.stdout)["tasks"]) == 2
    assert b"8 of 8 quanta read" in shown
    assert shown.endswith(b"\r\x1b[K")
