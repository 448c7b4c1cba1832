from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
KMEANS = ["--points", "6000", "--blocks", "3", "--dimensions", "2", "--clusters", "4"]
# More centres than a block of eight points is likely to touch: the start misses some clusters for good.
UNFINDABLE = ["--points", "24", "--blocks", "3", "--clusters", "8"]
# What each line of `increment` adds, in MiB (a list holds 8 bytes an item), for every million items of `value`.
INCREMENTS = {
    "a = ": lambda value: 7.629,
    "b = ": lambda value: 7.629 * value,
    "c = ": lambda value: 76.294 * value,
    "del b": lambda value: -7.629 * value,
    "return": lambda value: 0.0,
}


def run(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def by_python_and_by_runmem(folder: Path, example: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Return the result of an example with plain Python, after comparing it with that of runmem."""
    python = run(folder, EXAMPLES / example, *arguments)
    runmem = run(folder, "-m", "runmem", "--workers=2", EXAMPLES / example, *arguments)
    assert (runmem.stdout, runmem.returncode) == (python.stdout, python.returncode), runmem.stderr
    return python


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    (folder / "deeper" / "__pycache__").mkdir(parents=True)
    (folder / "one.txt").write_text("The cat saw the dog.\n")
    (folder / "two.md").write_text("the DOG and 2 cats_and\n")
    (folder / "deeper" / "three.py").write_text("zebra = 'Ärger'\n", encoding="utf-8")
    (folder / "latin.txt").write_bytes("déjà vu".encode("latin-1"))
    (folder / "lost.rst").symlink_to(folder / "nowhere.rst")
    (folder / "data.csv").write_text("not text not text")
    (folder / "deeper" / "__pycache__" / "skipped.py").write_text("not")
    return folder


@pytest.mark.parametrize("files_per_task", [1, 100])
def test_wordcount_counts_the_words_of_a_folder(tmp_path, texts, files_per_task):
    done = by_python_and_by_runmem(tmp_path, "wordcount.py", texts, "--files_per_task", files_per_task)
    assert done.returncode == 0
    first, second, *words = done.stdout.splitlines()
    assert first == "4 files, 1 unreadable"
    assert second == "15 words, 11 distinct"
    # Words of equal count stand in the order of the alphabet; the file in Latin-1 loses its accented letters only.
    assert [line.split() for line in words] == [
        ["3", "the"], ["2", "and"], ["2", "dog"], ["1", "cat"], ["1", "cats"], ["1", "d"], ["1", "j"], ["1", "saw"],
        ["1", "vu"], ["1", "zebra"],
    ]  # fmt: skip


def test_wordcount_of_a_folder_without_text_says_so(tmp_path):
    done = by_python_and_by_runmem(tmp_path, "wordcount.py", tmp_path)
    assert done.returncode == 1
    assert "there is no .py, .txt" in done.stderr


def test_wordcount_by_default_counts_the_standard_library(tmp_path):
    done = run(tmp_path, EXAMPLES / "wordcount.py", "--files_per_task", 500)
    files, words = (int(re.match(r"[\d,]+", line)[0].replace(",", "")) for line in done.stdout.splitlines()[:2])
    assert files > 500
    assert words > 500_000


def test_kmeans_finds_the_centres_that_the_points_came_from(tmp_path):
    done = by_python_and_by_runmem(tmp_path, "kmeans.py", *KMEANS)
    assert done.returncode == 0
    assert "6,000 points in 3 blocks" in done.stdout


def test_kmeans_exits_1_when_it_does_not_find_them(tmp_path):
    done = by_python_and_by_runmem(tmp_path, "kmeans.py", *UNFINDABLE)
    assert done.returncode == 1
    assert "of 8 centres were not found" in done.stderr


def test_kmeans_refuses_blocks_that_are_too_small(tmp_path):
    done = by_python_and_by_runmem(tmp_path, "kmeans.py", "--points", 10, "--blocks", 10)
    assert done.returncode == 2
    assert "fewer --blocks" in done.stderr


def without_reports(output: str) -> str:
    """Return the output of the program without reports."""
    return "".join(line + "\n" for line in output.splitlines() if line.startswith("increment("))


@pytest.fixture(scope="module")
def increment(tmp_path_factory):
    """Run the manual's example with reports of the workers; return the result and the folder."""
    tmp_path = tmp_path_factory.mktemp("increment")
    done = run(
        tmp_path, "-m", "runmem", "--python_memory_profile", "--log_level=debug", "--workers=2",
        EXAMPLES / "increment.py",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done, tmp_path


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="compares exact readings of Linux's /proc")
def test_increment_shows_what_each_line_of_the_task_takes_and_gives_back(increment):
    done, folder = increment
    (written,) = folder.glob("runmem_runs/increment_*/profiles/increment.txt")
    for text in (done.stdout, written.read_text()):
        tables = {value_of(table): table for table in text.split("Filename: ")[1:]}
        assert sorted(tables) == [1, 2, 3]
        for value, table in tables.items():
            assert increments(table) == pytest.approx(
                [amount(value) for amount in INCREMENTS.values()], abs=0.3
            ), table  # fmt: skip


def increments(table: str) -> list[float]:
    """Return the increments in MiB of the lines of the function."""
    return [
        float(re.search(r"MiB +(-?[\d.]+) MiB +1 +" + re.escape(code), table)[1]) for code in INCREMENTS
    ]  # fmt: skip


def value_of(table: str) -> int:
    """Return the argument of the call in a table, derived from the increment of line ``b``."""
    return round(increments(table)[1] / 7.629)


def test_increment_gives_the_same_by_python(increment):
    done, folder = increment
    python = run(folder, EXAMPLES / "increment.py")
    assert python.returncode == 0
    assert without_reports(python.stdout) == without_reports(done.stdout) == "".join(
        f"increment({value}) = {value + 1}\n" for value in (1, 2, 3)
    )  # fmt: skip
    assert python.stdout.count("Filename: ") == 3
