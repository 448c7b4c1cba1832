"""Folders of processes that were killed are removed; all others stay."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from runmem.store.scratch import make_scratch, remove_abandoned_scratch

MAKE = "from runmem.store.scratch import make_scratch; print(make_scratch())"

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a process that ended is known by /proc")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def abandoned(tmp_path: Path) -> Path:
    """A folder with something in it, whose process has ended."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", MAKE], env=environment, capture_output=True, text=True, check=True)
    folder = Path(done.stdout.strip())
    (folder / "worker").mkdir()
    (folder / "worker" / "spilled").touch()
    return folder


def test_that_of_a_process_that_ended_is_removed(abandoned: Path) -> None:
    assert abandoned.stat().st_mode & 0o777 == 0o700
    remove_abandoned_scratch()
    assert not abandoned.exists()


def test_that_of_a_living_process_stays(tmp_path: Path) -> None:
    folder = make_scratch()
    remove_abandoned_scratch()
    assert folder.is_dir()


def test_a_number_that_went_to_another_process_does_not_keep_it(tmp_path: Path) -> None:
    words = make_scratch().name.split("-")
    words[4] = str(int(words[4]) - 1)  # it started earlier
    folder = tmp_path / "-".join(words)
    folder.mkdir()
    remove_abandoned_scratch()
    assert not folder.exists()


def test_what_may_not_be_ours_stays(abandoned: Path, tmp_path: Path) -> None:
    machine = abandoned.name.split("-")[2]
    elsewhere = tmp_path / abandoned.name.replace(machine, "0" * 12)
    for other in (elsewhere, tmp_path / "runmem-dask-abc", tmp_path / "dask-scratch-space"):
        other.mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").touch()
    link = tmp_path / (abandoned.name + "x")
    link.symlink_to(target)
    foreign = tmp_path / (abandoned.name + "y")
    foreign.mkdir()
    if os.getuid() == 0:
        os.chown(foreign, 12345, 12345)
    remove_abandoned_scratch()
    assert not abandoned.exists()
    assert elsewhere.is_dir()
    assert (tmp_path / "runmem-dask-abc").is_dir()
    assert (target / "mine").exists()
    assert link.is_symlink()
    assert foreign.is_dir() == (os.getuid() == 0)


def test_a_folder_for_another_process_is_removed_after_its_end(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    shell = f"{sys.executable} -P -m runmem.store.scratch $$; read -r wait"
    with subprocess.Popen(
        ["sh", "-c", shell], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout is not None
        folder = Path(job.stdout.readline().strip())
        assert folder.stat().st_mode & 0o777 == 0o700
        remove_abandoned_scratch()
        assert folder.is_dir()
        job.communicate("\n")
    remove_abandoned_scratch()
    assert not folder.exists()
