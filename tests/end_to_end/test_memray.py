"""``--memray`` and ``--profile_peak`` in a run: files and pages in the run directory, marked records, and notes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("memray", reason="memray (extra `memray`) is not installed")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memray and the mark are those of Linux")

PROGRAM = """
from runmem import profile, task, wait_on

MIB = 1 << 20

@task(returns=1)
def takes(size):
    kept = [bytearray(MIB) for _ in range(size)]
    return len(kept)

@task(returns=1, time_out=60)  # in a fresh process
def takes_apart(size):
    return len(bytearray(size * MIB)) // MIB

@task(returns=1)
def fails(size):
    kept = bytearray(size * MIB)
    raise ValueError("no")

@task(returns=1)
@profile
def with_table(size):
    return len(bytearray(size * MIB)) // MIB

@profile(backend="memray")
def in_the_program(size):
    return len(bytearray(size * MIB)) // MIB

print(in_the_program(5), wait_on([takes(30), takes_apart(40), with_table(20)]))
try:
    wait_on(fails(10))
except ValueError as error:
    print("raised", error)
"""


def test_named_tasks_are_recorded_wherever_they_run(
    runmem: Callable[..., Any], write: Callable[..., Path], tmp_path: Path
) -> None:
    write(tmp_path, "app.py", PROGRAM)
    options = ["--python_memory_profile", "--workers=1", "--profile_peak"]
    ran = runmem(tmp_path, *options, "--memray=takes,app.takes_apart,fails,with_table,nosuch", "app.py")
    assert ran.code == 0, ran.err
    assert "5 [30, 40, 20]\nraised no\n" in ran.out
    profiles = ran.runs[0] / "profiles"
    names = sorted(path.stem.split("-")[1] for path in profiles.glob("memray-*-1.bin"))
    assert names == ["fails", "in_the_program", "takes", "takes_apart"]
    pages = {path.stem.split("-")[1]: path.read_text() for path in profiles.glob("memray-*-1.html")}
    assert sorted(pages) == names
    for name, page in pages.items():
        assert name in page
    for name, size, line in (("takes", 30, 8), ("takes_apart", 40, 13), ("fails", 10, 17)):
        text = (profiles / f"{name}.txt").read_text()
        assert re.search(rf"^ *{size}\.0 MiB +\d+ +{line}  ", text, re.MULTILINE), text
        assert re.search(rf"^Flame graph: memray-{name}-\S+-1\.html, ", text, re.MULTILINE)
    assert re.search(r"^ *5\.0 MiB +1 +27  return len", ran.out, re.MULTILINE)
    records = {record["name"]: record for record in ran.records}
    recorded = {name: record["recorded_by"] for name, record in records.items()}
    assert recorded == {"takes": "memray", "takes_apart": "memray", "fails": "memray", "with_table": None}
    assert "memray" in records["takes_apart"]["increment_unclear"]
    assert records["with_table"]["increment_unclear"] is None
    assert records["takes"]["peak_bytes"] - records["takes"]["base_bytes"] >= 30 * 2**20
    table = (profiles / "with_table.txt").read_text()
    assert "allocations not recorded, it has a @profile with another backend" in table
    sizes = re.search(r"([\d.]+) MiB +-?[\d.]+ MiB +([\d.]+) MiB +1 +return len", table)
    assert sizes is not None
    assert float(sizes[2]) - float(sizes[1]) == pytest.approx(20, abs=1)
    # The peak of the task is exact, though the mark was reset for each line.
    assert records["with_table"]["peak_bytes"] / 2**20 == pytest.approx(float(sizes[2]), abs=0.5)
    assert "--memray=nosuch: no task of this name was called. The tasks are fails, takes, takes_apart, " in ran.err
    assert "the allocations of a call of with_table were not recorded: it has a @profile with another" in ran.err
    assert re.search(r"^takes +1 +0 +<=", ran.err, re.MULTILINE)
    assert "<= recorded: memray recorded the allocations" in ran.err
    assert "  graph     runmem_runs/app_01/profiles/memray-fails-" in ran.err
    assert ran.provenance["records_complete"]
    assert not [*ran.runs[0].glob("replica/*/captures-*")]
