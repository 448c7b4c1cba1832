"""The example of docs/profile.md prints the table on the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "profile.md").read_text("utf-8")
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
ROW = re.compile(r"^ +\d+ +([\d.]+) MiB +(-?[\d.]+) MiB +([\d.]+) MiB +1   ", re.MULTILINE)
VARIES = re.compile(r"(?<=time: )[\d.]+|(?<=Filename: ).*|-?[\d.]+(?= MiB)| ")


def block_with(words: str, kind: str) -> str:
    """Return the one block of the page that has these words."""
    (found,) = [text for language, text in BLOCK.findall(PAGE) if language == kind and words in text]
    return str(found)


def rows(text: str) -> list[tuple[float, float, float]]:
    """Return size and peak of each line above the size at the start, and its increment, in MiB."""
    found = [tuple(map(float, row)) for row in ROW.findall(text)]
    return [(size - found[0][0], increment, peak - found[0][0]) for size, increment, peak in found]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="macOS keeps no high-water mark to reset")
def test_the_peak_of_each_line_is_as_on_the_page(tmp_path: Path) -> None:
    program = tmp_path / "spread.py"
    program.write_text(block_with("peak=True", "python"))
    env = {name: value for name, value in os.environ.items() if name != "COMPSS_PROFILING_FILE"}
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=100,
        env={**env, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = block_with("  Peak  ", "")
    assert VARIES.sub("", done.stdout) == VARIES.sub("", shown)
    printed, on_page = rows(done.stdout), rows(shown)
    assert len(printed) == 4
    for row, row_of_page in zip(printed[1:], on_page[1:], strict=True):
        assert row == pytest.approx(row_of_page, abs=3)
