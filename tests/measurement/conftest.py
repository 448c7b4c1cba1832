"""A scheduler, and workers as the command line starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import distributed
import pytest

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture
def scheduler() -> Iterator[distributed.Client]:
    """Return a client of a scheduler without workers."""
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", host="127.0.0.1") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def start_worker(scheduler: distributed.Client, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Return a function that starts `dask worker` with options and an environment, in the test's folder."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str, path: str = str(SOURCE), **environment: str) -> subprocess.Popen[bytes]:
        before = len(scheduler.scheduler_info()["workers"])
        command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler.scheduler.address, "--nthreads", "1"]
        started.append(
            subprocess.Popen(
                [*command, "--no-dashboard", "--host", "127.0.0.1", *options], cwd=tmp_path,
                env={**os.environ, **environment, "PYTHONPATH": path},
            )
        )  # fmt: skip
        scheduler.wait_for_workers(before + 1, timeout=60)
        return started[-1]

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(30)


@pytest.fixture
def path_without_runmem(tmp_path: Path) -> str:
    """Return a value of PYTHONPATH with which Python processes cannot import runmem."""
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['runmem'] = None\n")
    return str(folder)
