"""Programs whose standard streams are closed or full, as under cron or with a full log, run and end as under Python."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

TASKS = """
import sys
from pathlib import Path
from runmem import task, wait_on

@task(returns=1)
def square(x):
    return x * x

def done(text):
    Path("done").write_text(text)

"""
PROGRAMS = {
    "exit code": TASKS + "done(str(sum(wait_on([square(i) for i in range(20)]))))\nsys.exit(4)\n",
    "no task": TASKS + "done('nothing')\n",
    "prints": TASKS + "print(wait_on(square(3)))\nprint('more', file=sys.stderr)\ndone('printed')\n",
    "raises": TASKS + "done(str(wait_on(square(5))))\nraise LookupError('gone')\n",
    "exits with text": TASKS + "done(str(wait_on(square(5))))\nsys.exit('the end')\n",
    "prints first": TASKS + "print('first')\ndone(str(wait_on(square(3))))\n",
    "logs": TASKS + "import logging\nlogging.warning('careful')\ndone(str(wait_on(square(6))))\nsys.exit(9)\n",
}
CLOSED = (">&- 2>&-", "<&- >&- 2>&-", ">&-", "2>&-", "<&-")
FULL = ("2>/dev/full", ">/dev/full", ">/dev/full 2>/dev/full")
SOME = {"exit code": (">&- 2>&-", "2>&-", ">/dev/full 2>/dev/full"), "prints": CLOSED + FULL}
TRIED = [
    (program, streams) for program in PROGRAMS for streams in SOME.get(program, (">&- 2>&-", ">/dev/full 2>/dev/full"))
]  # fmt: skip


class Done(NamedTuple):
    """What a program did: its exit code and what it has left."""

    code: int
    result: str


def run(folder: Path, environment, command: list[str], streams: str) -> Done:
    (folder / "done").unlink(missing_ok=True)
    line = f"exec {shlex.join([sys.executable, *command])} {streams}"
    done = subprocess.run(["sh", "-c", line], cwd=folder, env=environment(), capture_output=True, timeout=90)
    left = folder / "done"
    return Done(done.returncode, left.read_text() if left.exists() else "it came to no end")


@pytest.mark.parametrize(("program", "streams"), TRIED)
def test_a_program_ends_as_under_python(tmp_path, write, environment, program, streams):
    if "/dev/full" in streams and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    write(tmp_path, "app.py", PROGRAMS[program])
    plain = run(tmp_path, environment, ["app.py"], streams)
    assert run(tmp_path, environment, ["-m", "runmem", "--workers=1", "app.py"], streams) == plain


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full"])
def test_what_runmem_says_comes_nowhere_else(tmp_path, write, environment, streams):
    write(tmp_path, "app.py", TASKS + "print(wait_on(square(3)))\nsquare('no')\n")
    line = f"exec {sys.executable} -m runmem --python_memory_profile --workers=1 app.py {streams}"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, timeout=90)
    assert (done.stdout, done.stderr) == (b"9\n", b"")
    for path in (tmp_path / "runmem_runs").rglob("*"):
        if path.is_file():
            assert b"runmem:" not in path.read_bytes(), path  # what has taken the place of a closed stream


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path, write, environment):
    write(
        tmp_path,
        "app.py",
        TASKS
        + """
import os

@task(returns=1)
def streams():
    return [os.path.realpath(f"/proc/self/fd/{number}") for number in range(3)]

mine = [os.path.realpath(f"/proc/self/fd/{number}") for number in range(3)]
done(" ".join(sorted({*mine, *wait_on(streams())})))
""",
    )
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    assert run(tmp_path, environment, ["-m", "runmem", "app.py"], "<&- >&- 2>&-") == (0, os.devnull)
