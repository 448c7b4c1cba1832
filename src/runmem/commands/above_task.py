"""What the decorators above `@task` have in common: their keywords, and the task that they are on."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from runmem.errors import TaskDeclarationError, TaskWarning
from runmem.graph.current import current_program
from runmem.graph.task import TaskFunction

__all__ = ["Decorator", "Options", "above_task", "warn_above_task"]

Decorator = Callable[[Any], Any]
Options = dict[str, Any]

_RENAMED = {"mpi_runner": "runner"}


def above_task(
    name: str,
    options: Mapping[str, object],
    names: Iterable[str],
    needed: Iterable[str],
    change: Callable[[TaskFunction, Options, str], object],
) -> Decorator:
    """Return a decorator that changes a task.

    Parameters
    ----------
    name : str
        The decorator's.
    options : dict
        Its keywords, in snake case or, as PyCOMPSs takes them too, in camel case.
    names, needed : iterable of str
        Keywords that it knows, and those without which it cannot be used.
    change : callable
        Given the task, the keywords in snake case and what names the place in errors.
    """
    given: Options = {_in_snake_case(key): value for key, value in options.items()}

    def decorate(decorated: Any) -> Any:
        task = _task_below(decorated)
        if task is None:
            what = getattr(decorated, "__qualname__", repr(decorated))
            raise TaskDeclarationError(f"@{name} on {what}, which is not a task: write @{name} above @task.")
        where = f"@{name} on {task.place}"
        missing = [key for key in needed if given.get(key) is None]
        if missing:
            raise TaskDeclarationError(f"{where} needs {' and '.join(_needed(key, given) for key in missing)}.")
        _warn_of_unknown(task, given, [*names, *needed], where)
        change(task, given, where)
        return decorated

    return decorate


def _needed(key: str, given: Options) -> str:
    """Return a keyword that is missing, with what may have been given in its place."""
    close = difflib.get_close_matches(key, given, 1, cutoff=0.8)
    example = f'{key}="mpirun", say' if key == "runner" else f"{key}="
    return f"{example} (not {close[0]}=)" if close else example


def _in_snake_case(name: str) -> str:
    if name.endswith("_layout"):  # the rest is the name of a parameter
        return name
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return _RENAMED.get(name, name)


def _task_below(decorated: Any) -> TaskFunction | None:
    """Return the task that a decorated object is, or that others wrap; None if there is none."""
    while decorated is not None and not isinstance(decorated, TaskFunction):
        decorated = getattr(decorated, "__wrapped__", None)
    return decorated


def _warn_of_unknown(task: TaskFunction, given: Options, names: list[str], where: str) -> None:
    for key in given:
        if key not in names and not key.endswith("_layout"):
            similar = difflib.get_close_matches(key, names, 1)
            hint = f"; did you mean {similar[0]}?" if similar else ""
            warn_above_task(task, f"{where}: {key}= has no effect{hint}")


def warn_above_task(task: TaskFunction, text: str) -> None:
    """Warn of a decorator, at the line of its task; not where a worker imports the module."""
    if current_program() is not None:
        line = getattr(getattr(task.function, "__code__", None), "co_firstlineno", 1)
        warnings.warn_explicit(text, TaskWarning, task.file or "<task>", line)
