"""All commands of docs/tutorial.md, run in order in one folder, print the output on the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from readme_commands import setup_commands  # noqa: E402

BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text("utf-8"))
ROW = re.compile(r"^ +\d+ .*?([-\d.]+) MiB +(\d+)   (.*)$", re.MULTILINE)  # of a table: increment, how often, the line


def edited(program: str, change: str) -> str:
    """Apply a diff to a program."""
    lines = change.splitlines()
    before = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
    after = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
    assert program.count(before) == 1
    return program.replace(before, after)


def test_the_installation_is_that_of_the_readme() -> None:
    kind, command = BLOCKS[0]
    assert kind == "sh"
    assert setup_commands()[0].startswith(command.strip())


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[subprocess.CompletedProcess[str]]]:
    """Run all commands of the page after the installation; return the folder and the output of each block."""
    folder = tmp_path_factory.mktemp("tutorial")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(folder)}
    program, done = folder / "stars.py", []
    for kind, text in BLOCKS[1:]:
        if kind == "python":
            program.write_text(text)
        elif kind == "diff":
            program.write_text(edited(program.read_text(), text))
        elif kind == "sh":
            done.append(subprocess.run(
                ["bash", "-ec", text], cwd=folder, env=env, capture_output=True, text=True, timeout=200,
                stdin=subprocess.DEVNULL,
            ))  # fmt: skip
    return folder, done


def test_every_command_does_what_the_page_says(
    followed: tuple[Path, list[subprocess.CompletedProcess[str]]],
) -> None:
    folder, (plain, measured, drawn, failed, profiled, mended) = followed
    codes = [done.returncode for done in (plain, measured, drawn, failed, profiled, mended)]
    assert codes == [0, 0, 0, 3, 0, 0], [done.stderr for done in (measured, failed, profiled, mended)]
    assert plain.stdout == measured.stdout == "200 stars in 4 images\n"
    assert mended.stdout.startswith(plain.stdout)
    assert "count_stars      4       0" in measured.stderr
    assert (folder / "memory.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "runmem_runs" / "stars_03" / "metrics" / "survey.json").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="exact peaks need Linux")
def test_the_numbers_are_about_those_of_the_page(
    followed: tuple[Path, list[subprocess.CompletedProcess[str]]],
) -> None:
    _, (_, _, _, failed, profiled, mended) = followed
    for done, status in ((failed, "failed"), (mended, "passed")):
        pattern = rf"{status} +survey\.CountStarsMemory\.less_than +\d+ byte \(([\d.]+) MiB\) +< 200 MiB"
        (told,) = (found[1] for kind, text in BLOCKS if (found := re.search(pattern, text)))
        assert float(re.search(pattern, done.stdout)[1]) == pytest.approx(float(told), abs=15)
    (table,) = (text for kind, text in BLOCKS if text.startswith("Line #"))
    told, shown = (ROW.findall(text) for text in (table, profiled.stdout.partition("Job name")[0]))
    assert [row[1:] for row in told] == [row[1:] for row in shown]
    assert len(told) == 8
    for (expected, *line), (found, *_) in zip(told, shown, strict=True):
        assert float(found) == pytest.approx(float(expected), abs=15), line
