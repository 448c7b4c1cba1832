"""Generated programs give the same on a real cluster as with `runmem --sequential`, also while its workers are killed.

DIFFERENTIAL_PROGRAMS says how many, as for the other tests of this folder; 100 take a minute.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import pytest
from grammar import PROGRAMS, drawn

pytestmark = pytest.mark.timeout(7200)

HERE = Path(__file__).parent
TIMEOUT_S = 60 + 4 * PROGRAMS


class Way(NamedTuple):
    """How a share of the programs is run."""

    share: float
    workers: int
    bundles: str
    kill_every: int = 0


WAYS = {
    "two workers": Way(0.3, 2, "bundled"),
    "two workers, no bundles": Way(0.2, 2, "single"),
    "one worker": Way(0.1, 1, "bundled"),
    "one worker, no bundles": Way(0.1, 1, "single"),
    "two workers that are killed": Way(0.2, 2, "bundled", 3),
    "one worker that is killed, no bundles": Way(0.1, 1, "single", 4),
}


def runmem(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    outside = ("RUNMEM_", "COMPSS_", "PYTHON", "DASK_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    return subprocess.run(
        [sys.executable, "-m", "runmem", *arguments], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S,
        env={**kept, "PYTHONPATH": str(HERE.parents[1] / "src")}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def by_program(output: str) -> list[str]:
    return output.split("=== program ")[1:]


@pytest.mark.parametrize("name", WAYS)
def test_programs_give_the_same_on_a_cluster(name: str, tmp_path: Path) -> None:
    way = WAYS[name]
    sources = drawn(max(4, int(way.share * PROGRAMS)), list(WAYS).index(name))
    (tmp_path / "sources.json").write_text(json.dumps(sources))
    program = [str(HERE / "many_programs.py"), "sources.json", way.bundles]
    right = runmem(tmp_path, "--sequential", "--no_summary", *program, "0")
    assert right.returncode == 0, right.stderr
    found = runmem(tmp_path, "--workers", str(way.workers), "--no_summary", *program, str(way.kill_every))
    assert len(by_program(right.stdout)) == len(sources)
    for source, wanted, got in zip(sources, by_program(right.stdout), by_program(found.stdout), strict=False):
        assert got == wanted, f"this program gives something else on the cluster:\n{source}"
    assert len(by_program(found.stdout)) == len(sources), found.stderr
    assert found.returncode == 0, found.stderr
    if way.kill_every:
        assert json.loads((tmp_path / "killed.json").read_text()), "no worker was killed: too few programs for that"


def test_programs_end_with_the_same_exit_code(tmp_path: Path) -> None:
    sources = drawn(100, 77)
    ends = [s for s in sources if s.endswith("sys.exit(3)\n")][:1]
    ends += [s for s in sources if "\ntold(wait_on(" in s and "= fail(" in s][:2]
    ends += [sources[-1], f"{sources[-1]}unseen = fail(3, 0, 'unseen')\n"]  # an error that the program never waits for
    codes = set()
    options_in_turn = cycle((["--workers=2"], ["--workers=1", "--python_memory_profile"]))
    for source, options in zip(ends, options_in_turn, strict=False):
        (tmp_path / "app.py").write_text(source)
        right = runmem(tmp_path, "--sequential", "--no_summary", "app.py")
        found = runmem(tmp_path, *options, "--no_summary", "app.py")
        assert (found.stdout, found.returncode) == (right.stdout, right.returncode), f"{source}\n{found.stderr}"
        codes.add(right.returncode)
    assert {0, 1, 3} <= codes
