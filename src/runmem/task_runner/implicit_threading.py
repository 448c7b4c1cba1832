"""Threads that numerical libraries start on their own: off where several processes share the cores."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import threadpoolctl

__all__ = ["ALLOW_VARIABLE", "disableImplicitThreading"]

ALLOW_VARIABLE = "LSST_ALLOW_IMPLICIT_THREADS"
# Read when a library is loaded; what is loaded already is set by `threadpoolctl` and by the libraries' own functions.
_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "MKL_DOMAIN_NUM_THREADS",
    "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMEXPR_MAX_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip
_SETTERS = {"numexpr": "set_num_threads", "numba": "set_num_threads", "pyarrow": "set_cpu_count"}


def disableImplicitThreading() -> bool:
    """Limit the numerical libraries of this process, and of processes that it starts, to one thread each.

    OpenBLAS, MKL, BLIS, OpenMP, numexpr, numba and pyarrow, whether they are loaded already or later. Stays in effect
    until the process ends.

    Returns
    -------
    bool
        False if the environment variable ``LSST_ALLOW_IMPLICIT_THREADS`` is set (to anything but nothing): then
        everything is left as it is.

    Notes
    -----
    Limitation: a library that reads none of the known variables, and that `threadpoolctl` does not know, keeps its
    threads.
    """
    if os.environ.get(ALLOW_VARIABLE):
        return False
    os.environ.update(dict.fromkeys(_VARIABLES, "1"))
    threadpoolctl.threadpool_limits(limits=1)
    for module, setter in _SETTERS.items():
        if module in sys.modules:
            with suppress(Exception):  # one that was loaded in part, or is of another version: its own affair
                getattr(sys.modules[module], setter)(1)
    return True
