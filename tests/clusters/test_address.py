from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import pytest

from runmem.clusters.address import check_versions
from runmem.errors import ClusterError

PYTHON, RUNMEM = platform.python_version(), version("runmem")
MINOR = int(PYTHON.split(".")[1])


def found(python: str = f"{PYTHON}.final.0", runmem: str | None = RUNMEM) -> dict[str, Any]:
    """Return Dask's versions of one process."""
    return {"host": {"python": python}, "packages": {"runmem": runmem}}


def test_the_same_versions_are_welcome() -> None:
    check_versions({"scheduler": found(), "workers": {"tcp://a:1": found(), "tcp://a:2": found()}, "client": {}})


def test_another_patch_release_of_python_is_welcome() -> None:
    check_versions({"scheduler": found(f"3.{MINOR}.99.final.0"), "workers": {}})


def test_a_worker_without_runmem_is_named() -> None:
    with pytest.raises(ClusterError, match=rf"worker tcp://a:2 lacks runmem, which is {RUNMEM} here.*pip install"):
        check_versions({"scheduler": found(), "workers": {"tcp://a:1": found(), "tcp://a:2": found(runmem=None)}})


def test_another_version_of_runmem_is_named_with_ours() -> None:
    with pytest.raises(ClusterError, match=rf"the scheduler has runmem 0.0.1 and this program has runmem {RUNMEM}"):
        check_versions({"scheduler": found(runmem="0.0.1"), "workers": {}})


def test_another_python_is_named_with_ours() -> None:
    expected = rf"worker tcp://a:1 has python 3.{MINOR - 1}.4 and this program has python {PYTHON}"
    with pytest.raises(ClusterError, match=expected):
        check_versions({"scheduler": found(), "workers": {"tcp://a:1": found(f"3.{MINOR - 1}.4.final.0")}})


def test_a_process_that_does_not_answer_is_passed_over() -> None:
    check_versions({"scheduler": None, "workers": {"tcp://a:1": "timed out"}})
