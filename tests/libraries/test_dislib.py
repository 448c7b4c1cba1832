"""dislib, a library that others wrote for PyCOMPSs, as it is: its estimators give the same on a cluster as without."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(find_spec("dislib") is None, reason="dislib is not installed (the extra `dislib`)")

PAGE = Path(__file__).parents[2] / "docs" / "pycompss.md"
PROGRAM = Path(__file__).with_name("dislib_program.py")
NAMES = [
    "matmul", "transpose_and_slice", "kron", "qr", "svd", "pca", "k_means", "dbscan", "gaussian_mixtures",
    "random_forest", "cascade_svm", "nearest_neighbors", "grid_search", "lasso", "linear_regression", "scaling",
]  # fmt: skip


def printed(folder: Path, *options: str) -> dict[str, Any]:
    environment = {**os.environ, "ComputingUnits": "1", "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(
        [sys.executable, "-m", "runmem", *options, str(PROGRAM), *NAMES],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("dislib")
    return printed(folder), printed(folder, "--sequential")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_estimator_gives_the_same_as_without_a_cluster(name: str, results: Any) -> None:
    distributed, sequential = results
    for one, other in zip(flat(distributed[name]), flat(sequential[name]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_the_example_of_the_page_gives_what_the_page_says(tmp_path: Path) -> None:
    example = re.compile(r"```python\n(import dislib.*?)```\n\n```\n(.*?)```", re.DOTALL)
    source, expected = example.findall(PAGE.read_text("utf-8"))[0]
    (tmp_path / "blocks.py").write_text(source)
    command = [sys.executable, "-m", "runmem", "--workers=2", "blocks.py"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert run.stdout.endswith(expected), run.stderr


def flat(value: Any) -> list[float]:
    return [number for each in value for number in flat(each)] if isinstance(value, list) else [value]
