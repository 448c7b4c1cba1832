"""What a process of tasks prints where there is no room is counted, and nothing is raised."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from runmem.worker.task_output import Unwritten, describe_unwritten

FULL = Path("/dev/full")
PRINTING = """
    import os, sys
    from runmem.worker.task_output import keep_printing, unwritten

    if sys.argv[2:]:
        sys.stdout.write("before ")
    names = [(s.name, s.mode, s.encoding, s.errors, s.fileno(), s.isatty()) for s in (sys.stdout, sys.stderr)]
    keep_printing()
    keep_printing()
    again = [(s.name, s.mode, s.encoding, s.errors, s.fileno(), s.isatty()) for s in (sys.stdout, sys.stderr)]
    assert names == again, (names, again)
    assert sys.stdout is sys.__stdout__ and sys.stderr is sys.__stderr__
    sys.stdout.write("half ")
    print("é" * 10)
    print("more", "words", flush=True)
    print("error", file=sys.stderr)
    sys.stdout.buffer.write(b"bytes\\n")
    sys.stdout.writelines(["a\\n", "b\\n"])
    sys.stdout.flush()
    with open(sys.argv[1], "w") as file:
        file.write(repr(tuple(unwritten())))
"""
PRINTED = "half " + "é" * 10 + "\nmore words\nbytes\na\nb\n"


def ran(folder: Path, *words: str, stdout: int = subprocess.PIPE, **more: str) -> tuple[tuple[int, str], str, str]:
    """Run the program; return what it tells of its losses, and what came of its output and errors."""
    (folder / "app.py").write_text(textwrap.dedent(PRINTING), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env = {**kept, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PYTHONIOENCODING": "utf-8", **more}
    command = [sys.executable, "app.py", "told", *words]
    done = subprocess.run(command, cwd=folder, env=env, stdout=stdout, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 0, done.stderr
    size, reason = eval((folder / "told").read_text())
    return (size, reason), (done.stdout or b"").decode(), done.stderr.decode()


@pytest.mark.parametrize("environment", [{}, {"PYTHONUNBUFFERED": "1"}], ids=str)
def test_what_finds_room_is_written_as_ever(tmp_path: Path, environment: dict[str, str]) -> None:
    assert ran(tmp_path, "before", **environment) == ((0, ""), f"before {PRINTED}", "error\n")


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("environment", [{}, {"PYTHONUNBUFFERED": "1"}], ids=str)
def test_what_finds_none_is_counted(tmp_path: Path, environment: dict[str, str]) -> None:
    with FULL.open("w") as full:
        lost, _, err = ran(tmp_path, stdout=full.fileno(), **environment)
    assert (lost, err) == ((len(PRINTED.encode()), "No space left on device"), "error\n")


def test_a_pipe_that_nobody_reads_is_as_good_as_full(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        lost, _, err = ran(tmp_path, stdout=write)
    finally:
        os.close(write)
    assert (lost, err) == ((len(PRINTED.encode()), "Broken pipe"), "error\n")


def test_it_is_said_once_for_all_processes() -> None:
    assert describe_unwritten([]) is None
    assert describe_unwritten([Unwritten()]) is None
    found = [Unwritten(1000, "Broken pipe"), Unwritten(234, "Broken pipe"), Unwritten(1, "No space left on device")]
    assert describe_unwritten(found) == (
        "at least 1,235 bytes that tasks printed could not be written (Broken pipe, No space left on device); the "
        "tasks went on without"
    )
