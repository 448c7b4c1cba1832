"""The section of Dask's configuration is found, and Dask is not imported if there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dask.config
import pytest

from runmem.dask_configuration import configuration_folders

SHOW = """
import sys
from runmem.errors import SettingError
from runmem.settings import resolve
try:
    print(resolve({}).workers, end=" ")
except SettingError as error:
    print(error, end=" ")
print("dask" in sys.modules)
"""


def started(home: Path, **environment: str) -> str:
    """Return the number of workers in the settings of a new process, and whether it imported Dask."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DASK_", "RUNMEM_"))}
    done = subprocess.run(
        [sys.executable, "-c", SHOW], env={**kept, "HOME": str(home), **environment}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / ".config" / "dask"
    made.mkdir(parents=True)
    return made


def test_without_a_word_about_us_dask_is_not_imported(folder: Path) -> None:
    (folder / "distributed.yaml").write_text("distributed:\n  worker:\n    daemon: true\n")
    assert started(folder.parents[1]) == "None False"


@pytest.mark.parametrize("name", ["runmem.yaml", "mine.yml", "mine.json"])
def test_a_section_in_a_file_is_found(folder: Path, name: str) -> None:
    (folder / name).write_text('{"runmem": {"workers": 3}}')
    assert started(folder.parents[1]) == "3 True"


def test_a_section_in_a_file_that_dask_is_told_of_and_in_a_variable_is_found(tmp_path: Path) -> None:
    file = tmp_path / "else.yaml"
    file.write_text("runmem:\n  workers: 5\n")
    assert started(tmp_path, DASK_CONFIG=str(file)) == "5 True"
    assert started(tmp_path, DASK_RUNMEM__WORKERS="4") == "4 True"


def test_a_wrong_value_names_its_place(folder: Path) -> None:
    (folder / "runmem.yaml").write_text("runmem:\n  workers: none\n")
    assert started(folder.parents[1]).startswith("dask configuration runmem.workers: 'none' cannot be used")


def test_the_folders_are_those_of_dask() -> None:
    assert set(configuration_folders()) == {Path(path) for path in dask.config.paths}
