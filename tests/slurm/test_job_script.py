"""`workers/job.sbatch` on a real Slurm, unchanged but with smaller requests for the small test nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "workers" / "job.sbatch"
SMALL = ("--cpus-per-task=2", "--mem=1500M")
APP = """
import os, sys, time
from runmem import task, wait_on

@task(returns=1)
def where(i):
    held = bytearray(40 * 2**20)
    time.sleep(0.3)
    return os.environ["SLURMD_NODENAME"]

if __name__ == "__main__":
    print(sorted(set(wait_on([where(i) for i in range(8)]))), sys.argv[1:], os.environ.get("FROM_SCRIPT"), flush=True)
    sys.exit(7)
"""


def submitted(folder: Path, *words: str) -> tuple[int, str, str]:
    """Submit the script in `folder`, wait for the job, and return its exit code, output and errors."""
    done = subprocess.run(["sbatch", "--wait", "--parsable", *SMALL, str(SCRIPT), *words],
                          cwd=folder, capture_output=True, text=True, timeout=120)  # fmt: skip
    job = done.stdout.strip()
    assert job, done.stderr
    out, err = ((folder / f"runmem-{job}.{kind}").read_text() for kind in ("out", "err"))
    return done.returncode, out, err


@pytest.fixture(autouse=True)
def interpreter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON", sys.executable)


def test_it_runs_a_program_on_both_nodes_with_a_worker_a_core(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "app.py").write_text(APP)
    (folder / "env.sh").write_text("export FROM_SCRIPT=yes\n")
    monkeypatch.setenv("RUNMEM_ENV_SCRIPT", str(folder / "env.sh"))
    code, out, err = submitted(folder, "app.py", "a b", "--flag")
    assert out == "['n1', 'n2'] ['a b', '--flag'] yes\n", err
    assert code == 7
    run = folder / "runmem_runs" / "app_01"
    records = [json.loads(line) for line in (run / "tasks.jsonl").read_text().splitlines()]
    assert sorted(record["task_id"] for record in records) == list(range(1, 9))
    assert {record["node"] for record in records} == {"n1", "n2"}
    provenance = json.loads((run / "run.json").read_text())
    assert (provenance["workers"], provenance["lost"]) == (4, [])
    for node in ("n1", "n2"):
        assert (folder / f"{node}.dat").stat().st_size


def test_an_interpreter_without_runmem_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON", "/bin/false")
    code, out, err = submitted(folder, "app.py")
    assert (code, out) == (2, "")
    assert "/bin/false on" in err
    assert "set PYTHON" in err


def test_without_a_program_it_says_how_it_is_used(folder: Path) -> None:
    code, _, err = submitted(folder)
    assert code == 2
    assert "usage: sbatch job.sbatch" in err
