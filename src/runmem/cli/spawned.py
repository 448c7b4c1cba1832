"""What a process that Python's `multiprocessing` spawns runs in place of the program's main module.

A program that spawns processes of its own needs its definitions there, as under plain Python. A Dask worker of the
embedded cluster does not: it gets functions by value, and the program must not run a second time.
"""

import os
import runpy

from runmem.clusters.local import is_embedded_worker

if not is_embedded_worker() and "RUNMEM_PROGRAM" in os.environ:
    globals().update(runpy.run_path(os.environ["RUNMEM_PROGRAM"], run_name="__mp_main__"))
