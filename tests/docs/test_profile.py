"""The example of docs/profile.md prints the table on the page."""

from __future__ import annotations

import os
import platform
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


def output_of(folder: Path, *command: str) -> tuple[str, str]:
    """Run a command in a folder, and return what it prints on standard output and on standard error."""
    env = {name: value for name, value in os.environ.items() if name != "COMPSS_PROFILING_FILE"}
    env |= {"PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="macOS keeps no high-water mark to reset")
def test_the_peak_of_each_line_is_as_on_the_page(tmp_path: Path) -> None:
    (tmp_path / "spread.py").write_text(block_with("peak=True", "python"))
    output, _ = output_of(tmp_path, sys.executable, "spread.py")
    shown = block_with("  Peak  ", "")
    assert VARIES.sub("", output) == VARIES.sub("", shown)
    printed, on_page = rows(output), rows(shown)
    assert len(printed) == 4
    for row, row_of_page in zip(printed[1:], on_page[1:], strict=True):
        assert row == pytest.approx(row_of_page, abs=3)


PLACE = re.compile(r"^ *([\d.]+) MiB +[\d,]+ +(\d+)  (.*?)  ", re.MULTILINE)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="runmem uses memray on Linux only")
def test_a_task_that_memray_records_has_the_table_and_the_files_on_the_page(tmp_path: Path) -> None:
    pytest.importorskip("memray", reason="memray (extra `memray`) is not installed")
    (tmp_path / "simulate.py").write_text(block_with("bytearray(1 << 20)", "python"))
    arguments = block_with("--memray simulate", "sh").split()
    assert arguments[0] == "runmem"
    printed, said = output_of(tmp_path, sys.executable, "-m", *arguments)
    assert printed == "9999609\n"
    profiles = tmp_path / "runmem_runs" / "simulate_01" / "profiles"
    text, shown = (profiles / "simulate.txt").read_text(), block_with("At its highest", "")
    sizes, sizes_on_page = sorted(PLACE.findall(text)), sorted(PLACE.findall(shown))
    assert len(sizes) == 3
    assert sizes == sizes_on_page
    heads = [re.split(r"([\d.]+) MiB allocated in \d+ blocks \(memray [\d.]+", each)[:3] for each in (text, shown)]
    assert [head[0].rpartition("\n")[2] for head in heads] == ["At its highest, the call had "] * 2
    assert float(heads[0][1]) == pytest.approx(float(heads[1][1]), abs=5)  # other threads of the worker are included
    summaries = [re.findall(r"^[\w ]+: ", each, re.MULTILINE) for each in (text, shown)]
    assert summaries[0] == summaries[1]
    node = platform.node()
    names = ["simulate.txt", f"memray-simulate-{node}-1.bin", f"memray-simulate-{node}-1.html"]
    assert sorted(path.name for path in profiles.iterdir()) == sorted(names)
    assert f"runmem: flame graph: runmem_runs/simulate_01/profiles/{names[2]}\n" in said
    page = (profiles / names[2]).read_text()
    assert "PyByteArray_Resize" in page  # native frames too
    assert "<script src=" not in page  # it needs no network
