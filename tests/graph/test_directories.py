"""Directories as data of tasks: each writer makes a version of its own, whatever the order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runmem.errors import ArgumentError
from runmem.graph.directions import DIRECTORY_IN, DIRECTORY_INOUT, DIRECTORY_OUT
from runmem.graph.synchronise import delete_file, file_exists, wait_on, wait_on_file
from runmem.graph.task import task


@task(folder=DIRECTORY_OUT)
def fill(folder, names):
    Path(folder).mkdir(exist_ok=True)
    for name in names:
        (Path(folder) / name).write_text(name)


@task(folder=DIRECTORY_INOUT)
def add(folder, name):
    (Path(folder) / "inner").mkdir(exist_ok=True)
    (Path(folder) / "inner" / name).write_text(name)


@task(folder=DIRECTORY_IN, returns=1)
def names_in(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


@pytest.mark.parametrize("seed", range(8))
def test_each_reader_sees_its_version(start_program: Callable[..., Any], tmp_path: Path, seed: int) -> None:
    start_program(seed, again=0.3)
    folder = tmp_path / "made"
    fill(folder, ["a", "b"])
    first = names_in(folder)
    add(folder, "c")
    second = names_in(str(folder))
    fill(folder, ["d"])
    third = names_in(folder)
    assert wait_on(first) == ["a", "b"]
    assert wait_on(second) == ["a", "b", "inner/c"]
    assert wait_on(third) == ["d"]
    assert wait_on_file(folder) == folder
    assert [path.name for path in folder.iterdir()] == ["d"]


@pytest.mark.parametrize("seed", range(4))
def test_a_directory_of_the_program(start_program: Callable[..., Any], tmp_path: Path, seed: int) -> None:
    start_program(seed, again=0.3)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "x").write_text("x")
    before = names_in(folder)
    add(folder, "y")
    after = names_in(folder)
    wait_on_file(folder)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == ["inner/y", "x"]
    assert wait_on([before, after]) == [["x"], ["inner/y", "x"]]


def test_a_file_is_no_directory(submitter: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ArgumentError, match=r"add: parameter 'folder' is declared DIRECTORY_INOUT, but .* is not a directory"
    ):
        add(tmp_path / "file", "x")


def test_no_directory_may_be_given(submitter: Any) -> None:
    @task(folder=DIRECTORY_IN, returns=1)
    def given(folder):
        return folder

    assert wait_on(given(None)) is None


def test_files_and_directories_are_deleted_when_their_tasks_have_ended(submitter: Any, tmp_path: Path) -> None:
    folder, other = tmp_path / "made", tmp_path / "other"
    fill(folder, ["a"])
    fill(other, ["b"])
    found = names_in(folder)
    assert file_exists(folder)
    assert file_exists(folder, tmp_path / "nowhere") == [True, False]
    assert file_exists([folder, (other, tmp_path / "nowhere")]) == [True, (True, False)]
    assert wait_on_file([folder, (other,)]) == [folder, (other,)]
    assert delete_file([folder, (other, tmp_path / "nowhere")]) == [True, (True, False)]
    assert wait_on(found) == ["a"]
    assert not folder.exists()
    assert not other.exists()
    assert delete_file(folder) is False
