"""Lies on the path of processes that the program spawns: ``import pycompss`` there means what it means in the program.

Whatever else is called so comes first, since its folder is the last one.
"""

import sys
from importlib import import_module

from runmem.pycompss.install import install

install()
sys.modules[__name__] = import_module("runmem.pycompss")
