"""`runmem run --measure-only`: plain Dask scripts, unchanged."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runmem.store.run import read_run

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs a program with `--measure-only`."""

    def run(program: str, *options: str, arguments: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        (tmp_path / "app.py").write_text(program)
        return subprocess.run(
            [sys.executable, "-m", "runmem", "run", "--measure-only", *options, "app.py", *arguments], cwd=tmp_path,
            capture_output=True, text=True, timeout=300,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        )  # fmt: skip

    return run


SEVERAL = """
import asyncio, logging, sys
import dask.array as da
from distributed import Client, LocalCluster

async def asynchronous():
    async with LocalCluster(n_workers=1, asynchronous=True, dashboard_address="127.0.0.1:0") as cluster:
        async with Client(cluster, asynchronous=True) as client:
            print(await client.submit(max, [3, 4], key="of-async"))

if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        with Client(cluster) as client, Client(cluster) as other:
            print(other.submit(min, [3, 4], key="of-other").result())
        with Client(cluster) as client:
            print(client.submit(min, [5, 6], key="of-second").result())
    asyncio.run(asynchronous())
    client = Client(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0")
    print(sys.argv, int(da.ones((2000, 2000), chunks=1000).sum().compute()))
    print(da.ones(10, chunks=5).sum().compute(scheduler="threads"))
    sys.exit(3)
"""


def test_each_cluster_that_a_script_uses_is_measured(run: Run, tmp_path: Path) -> None:
    done = run(SEVERAL, "--memory_interval", "0.05", arguments=("a", "--b"))
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines() == ["3", "5", "4", "['app.py', 'a', '--b'] 4000000", "10.0"]
    runs = sorted((tmp_path / "runmem_runs").iterdir())
    keys = [{record.key for record in read_run(run).records} for run in runs]
    assert keys[:3] == [{"of-other"}, {"of-second"}, {"of-async"}]
    assert len(runs) == 4
    assert {record.name for record in read_run(runs[3]).records} >= {"sum-aggregate"}
    assert all(read_run(run).provenance["records_complete"] for run in runs)
    assert done.stderr.count("Peaks are exact") == 4
    assert "4 Dask tasks were not measured, because the program ran them in its own process" in done.stderr
    assert "every_client" not in done.stderr


def test_a_program_that_does_not_use_dask_runs_and_is_told(run: Run) -> None:
    done = run("import sys; print('here'); print(__name__); raise KeyError('x')")
    assert (done.returncode, done.stdout) == (1, "here\n__main__\n")
    assert "KeyError: 'x'" in done.stderr
    assert "has made no client of dask.distributed" in done.stderr


def test_an_option_about_workers_is_refused(run: Run) -> None:
    done = run("print(1)", "--workers", "3")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--workers cannot be used with --measure-only: the program makes its own cluster" in done.stderr
