"""The measuring methods: one file and one class each. `METHODS` lists them in display order."""

from __future__ import annotations

from collections.abc import Iterable

from runmem.errors import SettingError
from runmem.trials.methods.cgroup import Cgroup
from runmem.trials.methods.contract import Method, MethodColumn, Reading
from runmem.trials.methods.gnu_time import GnuTime
from runmem.trials.methods.hwm import HighWaterMark
from runmem.trials.methods.mprof import Mprof
from runmem.trials.methods.pss import ProportionalSize
from runmem.trials.methods.rusage import Rusage
from runmem.trials.methods.sacct import Sacct
from runmem.trials.methods.sstat import Sstat
from runmem.trials.methods.top import Top
from runmem.trials.methods.tree import Tree

__all__ = ["METHODS", "MethodColumn", "Method", "Reading", "columns_of", "methods_named"]

_CLASSES = (HighWaterMark, Tree, ProportionalSize, Cgroup, GnuTime, Rusage, Top, Mprof, Sacct, Sstat)
METHODS: dict[str, type[Method]] = {method.name: method for method in _CLASSES}


def methods_named(names: Iterable[str]) -> list[type[Method]]:
    """Return the methods with these names, each once.

    Raises SettingError if a name is unknown; the message lists the valid ones.
    """
    found = {}
    for name in names:
        if name not in METHODS:
            raise SettingError(f"{name!r} is not a measuring method; the methods are {', '.join(METHODS)}")
        found[name] = METHODS[name]
    return list(found.values())


def columns_of(methods: Iterable[type[Method]]) -> list[MethodColumn]:
    """Return the columns of the methods, in order."""
    return [column for method in methods for column in method.columns]
