"""What Dask does about the memory of workers, in a run with tasks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
    import numpy as np
    from runmem import task, wait_on

    @task(returns=1)
    def make(number):
        return np.full(40 << 20, number, "u1")

    @task(returns=1)
    def first_of(array):
        return int(array[0])

    made = [make(number) for number in range(8)]
    assert wait_on([first_of(array) for array in made]) == list(range(8))
    print("done")
"""


@pytest.mark.slow
def test_spilling_is_reported_traced_and_summed(runmem, write, tmp_path: Path) -> None:
    write(tmp_path, "app.py", PROGRAM)
    ran = runmem(tmp_path, "--python_memory_profile", "--workers=1", "--worker_memory=350MiB", "app.py")
    assert (ran.code, ran.out) == (0, "done\n")
    assert ran.err.count("moves results to disk, because its memory is short") == 1
    assert "Spilled, paused or restarted" in ran.err
    report = subprocess.run(
        [sys.executable, "-m", "runmem", "report", str(ran.runs[-1]), "--json"], capture_output=True, check=True
    )
    spilled = [row for row in json.loads(report.stdout)["memory"] if row["kind"] == "spilled"]
    assert sum(row["spilled_bytes"] for row in spilled) >= 40 << 20
    makes = [record for record in ran.records if record["name"] == "make" and not record["increment_unclear"]]
    assert makes
    assert {round(record["increment_bytes"] / (1 << 20)) for record in makes} == {40}
