"""In a process of its own, whose logging nobody has set up: pytest's has handlers."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import runmem

BEGIN = """
import logging
from runmem.worker.log_levels import LogLevels, program_levels
root, study = logging.getLogger(), logging.getLogger("study.part")
"""
NOTHING = "assert program_levels.current() is None"
CHANGES = """
root.setLevel(logging.INFO)
assert program_levels.current() == LogLevels(levels=(("", logging.INFO),))
study.setLevel(5)
assert program_levels.current() == LogLevels(levels=(("", logging.INFO), ("study.part", 5)))
root.addHandler(handler := logging.NullHandler())
assert program_levels.current().has_handlers
root.removeHandler(handler)
assert not program_levels.current().has_handlers
logging.disable(logging.ERROR)
assert program_levels.current().disabled == logging.ERROR
logging.captureWarnings(True)
assert program_levels.current().captures_warnings
logging.captureWarnings(False)
logging.disable(logging.NOTSET)
study.setLevel(logging.NOTSET)
root.setLevel(logging.WARNING)
assert program_levels.current() is None
"""
OF_A_LIBRARY = """
class Own(logging.Logger): pass
logging.setLoggerClass(Own)
logging.getLogger("library").setLevel(logging.ERROR)
logging.setLoggerClass(logging.Logger)
assert program_levels.current() is None
"""
OF_DASK = """
for name in ("distributed", "distributed.worker", "tornado.access", "runmem.execution", "dask"):
    logging.getLogger(name).setLevel(logging.DEBUG)
assert program_levels.current() is None
"""
KEPT = """
study.setLevel(logging.DEBUG)
first = program_levels.current()
study.isEnabledFor(logging.INFO)
root.isEnabledFor(1)
assert first is not None and program_levels.current() is first
"""


@pytest.mark.parametrize(
    "program",
    [NOTHING, CHANGES, OF_A_LIBRARY, OF_DASK, KEPT],
    ids=["nothing is sent if nothing is set up", "a change is seen at once",
         "loggers of a library are its own", "levels of Dask are not sent",
         "nothing is looked up while nothing changes"],
)  # fmt: skip
def test_how_a_program_logs(program):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(program)], capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": str(Path(runmem.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
