"""What a process that Python's `multiprocessing` spawns runs in place of the program's main module.

A program that spawns processes of its own needs its definitions there, as under plain Python. A Dask worker of the
embedded cluster does not: it gets functions by value, and the program must not run a second time.
"""

import os

from runmem.clusters.local import is_embedded_worker

if not is_embedded_worker() and "RUNMEM_PROGRAM" in os.environ:
    # In this module's own namespace: multiprocessing copies it to that of __main__, as it does for a plain program.
    __file__ = os.environ["RUNMEM_PROGRAM"]
    with open(__file__, "rb") as _file:
        exec(compile(_file.read(), __file__, "exec", dont_inherit=True))
