"""The examples of docs/lsst.md run unchanged, with LSST's packages and a real repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lsst.ctrl.mpexec", reason="the LSST packages are not installed: pip install 'runmem[lsst]'")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lsst"))

import repository  # noqa: E402
from lsst.daf.butler import Butler  # noqa: E402
from lsst.pipe.base import Pipeline  # noqa: E402

from runmem.pipe_base.butler import FolderButler  # noqa: E402

TEXT = (ROOT / "docs" / "lsst.md").read_text("utf-8")
FILL, EACH_DATA_ID, QUANTA = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with the repository of the examples, after running the quanta of a task isr."""
    found = tmp_path_factory.mktemp("lsst_md")
    repository.make_repository(str(found / "repo"), visits=(1,), sizes={0: 30, 1: 20})
    names = {"butler": butler_of(found, "output"), "pipeline": pipeline_of("isr")}
    here = Path.cwd()
    os.chdir(found)
    try:
        exec(compile(QUANTA, "lsst.md", "exec"), names)
    finally:
        os.chdir(here)
    names["folder"] = found
    return names


def butler_of(folder: Path, run: str) -> Butler:
    return Butler.from_config(str(folder / "repo"), writeable=True, collections=["input"], run=run)


def pipeline_of(label: str) -> Pipeline:
    pipeline = Pipeline("scale the numbers")
    pipeline.addTask("pipeline_tasks.ScaleTask", label)
    return pipeline


def test_a_timed_method_tells_its_own_peak_under_runmem(tmp_path):
    (tmp_path / "fill.py").write_text(FILL)
    (command, told) = re.search(r"`(runmem [^`]+fill\.py)` prints `([^`]+)`", TEXT).groups()
    done = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=tmp_path, capture_output=True, text=True, timeout=240,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert eval(done.stdout) == pytest.approx(eval(told), abs=1)


def test_the_quanta_run_on_dask(folder):
    assert folder["quanta"].getReport().status.name == "SUCCESS"
    assert len(folder["quanta"].getReport().quantaReports) == 2


@pytest.mark.parametrize("kind", ["LsstButler", "FolderButler"])
def test_each_data_id_gets_a_metric(folder, monkeypatch, capsys, kind):
    monkeypatch.chdir(folder["folder"])
    for data_id in ({"visit": 1, "detector": 0}, {"visit": 1, "detector": 1}):
        metadata = Butler.from_config("repo", collections=["output"]).get("isr_metadata", data_id, instrument="Cam")
        FolderButler("folder").put(metadata, "isr_metadata", data_id)
    other = {"LsstButler": "FolderButler", "FolderButler": "LsstButler"}[kind]
    lines = [line for line in EACH_DATA_ID.splitlines() if not line.startswith(f"butler = {other}")]
    exec(compile("\n".join(lines), "lsst.md", "exec"), {})
    assert len(re.findall(r"demo\.IsrMemory: \d+ byte", capsys.readouterr().out)) == 2


def test_the_commands_for_pipelines_and_repositories_run(folder):
    (pipeline,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (folder["folder"] / "metrics.yaml").write_text(pipeline)
    blocks = [block for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) if "pip install" not in block]
    lines = [line for block in blocks for line in block.splitlines()]
    assert [line.split()[0] for line in lines] == ["pipetask", "runmem", "runmem", "runmem"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for line in lines:
        line = line.replace("runmem ", f"{sys.executable} -m runmem ", 1) if line.startswith("runmem") else line
        line = line.replace("isr,calib*", "isr")  # this pipeline has one task
        done = subprocess.run(
            line, shell=True, cwd=folder["folder"], env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
    butler = Butler.from_config(str(folder["folder"] / "repo"), collections=["u/me/metrics"])
    assert len(butler.query_datasets("metricvalue_demo_IsrMemoryOfPipeline")) == 2
    assert (folder["folder"] / "metrics" / "demo.json").exists()
