"""A session in a script tells the address of the dashboard and the summary, as the command line does."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import runmem

@runmem.task(returns=1)
def square(number):
    return number * number

if __name__ == "__main__":
    with runmem.session(workers=1, {settings}):
        print(runmem.wait_on([square(i) for i in range(3)]))
"""


@pytest.mark.parametrize(
    ("settings", "said", "unsaid"),
    [
        (
            "python_memory_profile=True",
            ["runmem: 1 worker; Dask dashboard: http://", "3 task calls in", "Max peak"],
            [],
        ),
        ("", ["runmem: 1 worker; Dask dashboard: http://", "3 task calls; memory was not measured"], []),
        ("python_memory_profile=True, summary=False", [], ["runmem: ", "task calls"]),
    ],
)
def test_a_session_tells_where_to_look_and_its_summary(tmp_path, write, environment, settings, said, unsaid):
    program = write(tmp_path, "study.py", PROGRAM.format(settings=settings))
    ran = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=90
    )
    assert (ran.returncode, ran.stdout) == (0, "[0, 1, 4]\n"), ran.stderr
    for text in said:
        assert text in ran.stderr
    for text in unsaid:
        assert text not in ran.stderr
    assert (tmp_path / "runmem_runs" / "study_01" / "run.json").is_file()
