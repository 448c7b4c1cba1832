"""The remaining functions of `pycompss.api.api`, and the exit code of a program that a COMPSsException ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from pycompss.api.api import *
from pycompss.api.exceptions import COMPSsException
from pycompss.api.task import task

@task(returns=1)
def double(x):
    return 2 * x

compss_start()
future = double(4)
compss_snapshot()
print(compss_get_number_of_resources(), compss_wait_on(future))
compss_request_resources(2, "group")
compss_free_resources(1)
compss_add_logger("theirs")
compss_stop()
raise COMPSsException("the end")
"""


@pytest.mark.parametrize("option", ["--workers=2", "--sequential"])
def test_the_functions_of_the_api(option: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "runmem", option, "app.py"], cwd=tmp_path, env={**os.environ}, capture_output=True,
        text=True, timeout=90, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stdout == "1 8\n", done.stderr
    assert done.returncode == 0
    assert "compss_request_resources(2) has no effect: give more --workers" in done.stderr
    assert "COMPSsException: the end" in done.stderr
