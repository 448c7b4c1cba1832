"""Tasks that do the same as another one, each with constraints of its own, as `@implement` declares them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runmem.graph.task import TaskFunction

__all__ = ["declare_implementation", "implementations_of"]

_declared: dict[str, dict[str, TaskFunction]] = {}


def declare_implementation(task: TaskFunction, module: str, name: str) -> None:
    """Note that a task does the same as the one of this name in a module, or in a class of it."""
    _declared.setdefault(f"{module}.{name}", {})[f"{task.__module__}.{task.__qualname__}"] = task


def implementations_of(task: TaskFunction) -> list[TaskFunction]:
    """Return the other tasks that do the same as a task, in the order of their declarations.

    A task of the program's file is found under the file's name, too.
    """
    if not _declared:
        return []
    found: dict[str, TaskFunction] = {}
    for module in dict.fromkeys((task.__module__, task.module)):
        found |= _declared.get(f"{module}.{task.__qualname__}", {})
    return [each for each in found.values() if each is not task]
