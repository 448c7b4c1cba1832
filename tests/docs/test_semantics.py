"""The examples of docs/semantics.md and docs/pycompss.md print the output on the pages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize(("page", "number"), [("semantics", 0), ("pycompss", 0), ("pycompss", 1), ("pycompss", 2)])
@pytest.mark.parametrize("option", ["--workers=2", "--sequential"])
def test_an_example_gives_what_the_page_says(page: str, number: int, option: str, tmp_path: Path) -> None:
    source, expected = EXAMPLE.findall((ROOT / "docs" / f"{page}.md").read_text("utf-8"))[number]
    (tmp_path / "app.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "runmem", option, "app.py"], cwd=tmp_path, capture_output=True, text=True, timeout=90,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stdout == expected, done.stderr


def test_the_error_of_the_page_is_the_one_that_is_told(tmp_path: Path) -> None:
    program = (
        "import numpy as np\nfrom runmem import task, wait_on\n@task(returns=1)\ndef normalise(block):\n"
        "    block -= block.mean()\n    return 1\nwait_on(normalise(np.ones(100_000)))\n"
    )
    (tmp_path / "app.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-m", "runmem", "--sequential", "--no_summary", "app.py"], cwd=tmp_path, capture_output=True,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, timeout=90, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    page = " ".join((ROOT / "docs" / "semantics.md").read_text("utf-8").split())
    told = " ".join(done.stderr.split())
    for text in ("ValueError: output array is read-only", told[told.index("Large values that a task") :]):
        assert text in page
    assert done.returncode == 1
