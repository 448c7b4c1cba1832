"""Prints one note to a program whose seed does not reach the random numbers of its tasks."""

from __future__ import annotations

import linecache
import random
import re
import sys
from types import BuiltinMethodType, CodeType, MethodType, ModuleType
from typing import Any

from runmem.graph.task import TaskFunction
from runmem.serialization.pickling import global_names
from runmem.standard_error import say

__all__ = ["SeedNote"]

_SEED = re.compile(r"\bseed\(")
_GENERATOR = getattr(random.random, "__self__", None)  # of the functions in `random`


class SeedNote:
    """Checks each task once, at its first call."""

    def __init__(self) -> None:
        self._seen: set[CodeType] = set()
        self._printed = False

    def look_at(self, task: TaskFunction) -> None:
        """Print a note if the program seeds the generator of its process, and the task draws from that of its own."""
        code = getattr(task.function, "__code__", None)
        if self._printed or code is None or code in self._seen:
            return
        self._seen.add(code)
        if _draws(code, task.function.__globals__) and _program_seeds():
            self._printed = True
            say(
                f"runmem: note: task {task.name} draws random numbers from the generator of its process, and each "
                "worker has its own: the seed that the program sets does not reach it. Pass a seed to the task, and "
                "make a generator from it there."
            )


def _draws(code: CodeType, names: dict[str, Any]) -> bool:
    for name in global_names(code):
        value = names.get(name)
        if value is random or (isinstance(value, (MethodType, BuiltinMethodType)) and value.__self__ is _GENERATOR):
            return True
        module = value.__name__ if type(value) is ModuleType else ""
        if module == "numpy.random" or (module == "numpy" and "random" in code.co_names):
            return "default_rng" not in code.co_names
    return False


def _program_seeds() -> bool:
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return any(_SEED.search(line) for line in linecache.getlines(file)) if file else False
