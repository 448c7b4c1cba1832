"""A real Slurm for the tests of this folder, started once a session and ended with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("slurm.sh")
SOURCE = Path(__file__).parents[2] / "src"


def _run(*arguments: str, timeout_s: float) -> str | None:
    """Run slurm.sh; return None if it succeeds, else its last line on standard error."""
    try:
        done = subprocess.run(
            [str(SCRIPT), *arguments], capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the folder of a running Slurm, with its logs and its method of memory accounting in ``gather``.

    ``RUNMEM_TEST_SLURM`` names the folder of one that `slurm.sh up` has started already; it is left running.
    """
    if (running := os.environ.get("RUNMEM_TEST_SLURM")) is not None:
        yield Path(running)
        return
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a Slurm for tests needs Linux and root")
    if (reason := _run("install", timeout_s=280)) is not None:
        pytest.skip(f"Slurm cannot be installed: {reason}")
    # Not below pytest's own folder: that is closed to the users that the daemons run as, and /tmp may be.
    folder = Path("/var/tmp") / f"runmem-test-slurm-{os.getpid()}"
    try:
        if (reason := _run("up", str(folder), timeout_s=200)) is not None:
            pytest.skip(f"Slurm does not start: {reason}")
        yield folder
    finally:
        left = _run("down", str(folder), timeout_s=100)
        shutil.rmtree(folder, ignore_errors=True)
    assert left is None, left


@pytest.fixture
def folder(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder from which jobs are submitted; return it."""
    for name in list(os.environ):
        if name.startswith(("RUNMEM_", "COMPSS_", "SLURM", "SBATCH", "DASK_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def runmem(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs ``runmem ARGUMENTS`` in the folder."""

    def run(*arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "runmem", *arguments],
            cwd=folder, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    return run


@pytest.fixture
def submitted(folder: Path, runmem: Callable[..., subprocess.CompletedProcess[str]]) -> Iterator[Callable[..., str]]:
    """Return a function that runs ``runmem submit ARGUMENTS`` and returns the job's number."""
    jobs: list[str] = []

    def submit(*arguments: str) -> str:
        done = runmem("submit", *arguments)
        assert done.returncode == 0, done.stderr
        jobs.append(done.stderr.partition("runmem: job ")[2].split()[0])
        return jobs[-1]

    yield submit
    for job in jobs:
        subprocess.run(["scancel", job], capture_output=True)
