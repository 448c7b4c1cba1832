"""The threads that numerical libraries say they use, loaded before and after implicit threading was turned off."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HOW_MANY = {
    "numpy": "import numpy; numpy.ones((99, 99)) @ numpy.ones((99, 99)); "
             "told = max(pool['num_threads'] for pool in threadpoolctl.threadpool_info())",
    "numexpr": "import numexpr; told = numexpr.get_num_threads()",
    "numba": "import numba; told = numba.get_num_threads()",
    "pyarrow": "import pyarrow; told = pyarrow.cpu_count()",
    "mkl": "import ctypes, importlib.metadata as found; "
           "(path,) = [file.locate() for file in found.files('mkl') if file.name.startswith('libmkl_rt.so')]; "
           "told = ctypes.CDLL(str(path)).MKL_Get_Max_Threads()",
}  # fmt: skip
OFF = "from runmem.task_runner.implicit_threading import disableImplicitThreading; disableImplicitThreading()"
_VARIABLES = ("_NUM_THREADS", "_MAX_THREADS", "IMPLICIT_THREADS")


def threads(*lines: str, **environment: str) -> list[int]:
    """Run lines in a new process; return what was told after each that asks."""
    own = {name: value for name, value in os.environ.items() if not name.endswith(_VARIABLES)}
    code = "\n".join(["import threadpoolctl", *(f"{line}; print(told)" if line != OFF else line for line in lines)])
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=own | environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one core every library uses one thread")
@pytest.mark.parametrize("library", HOW_MANY)
def test_a_library_uses_one_thread_loaded_before_or_after_unless_more_are_allowed(library):
    if not _is_installed(library):
        pytest.skip(f"{library} is not installed")
    how_many = HOW_MANY[library]
    before, after = threads(how_many, OFF, how_many)
    assert before > 1
    assert after == 1
    assert threads(OFF, how_many) == [1]
    assert threads(OFF, how_many, LSST_ALLOW_IMPLICIT_THREADS="1") == [before]


def _is_installed(distribution: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
