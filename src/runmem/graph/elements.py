"""The elements of collections: lists, tuples and dictionaries, nested, each element tracked separately."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import NamedTuple

from runmem.errors import ArgumentError
from runmem.graph.call import Slot
from runmem.graph.future import Future

__all__ = ["Element", "as_type_of", "elements", "root", "value_at", "with_elements"]


class Element(NamedTuple):
    """One element of a collection.

    Attributes
    ----------
    slot : tuple
        See `Slot`.
    value : object
    container : list, tuple or dict
        Contains it, under the last entry of `slot`.
    """

    slot: tuple[object, ...]
    value: object
    container: object


def elements(value: object, depth: int, argument: int | str, where: str) -> Iterator[Element]:
    """Yield the elements of a collection, `depth` levels down; branches may be of different lengths.

    Raises
    ------
    ArgumentError
        If the value, or a container nested in it above level `depth`, is not a list, tuple or dictionary; `where` names
        the parameter.
    """
    yield from _below(value, depth, (argument,), where)


def _below(container: object, depth: int, path: tuple[object, ...], where: str) -> Iterator[Element]:
    for key, value in _items(container, path, depth, where):
        here = (*path, key)
        if depth == 1 or value is None:
            yield Element(here, value, container)
        else:
            yield from _below(value, depth - 1, here, where)


def _items(container: object, path: tuple[object, ...], depth: int, where: str) -> Iterable[tuple[object, object]]:
    if isinstance(container, dict):
        return list(container.items())
    if isinstance(container, (list, tuple)):
        return list(enumerate(container))
    at = "".join(f"[{key!r}]" for key in path[1:])
    levels = "level" if depth == 1 else "levels"
    remedy = "wait for it first" if isinstance(container, Future) else "correct Depth, or pass nested lists"
    raise ArgumentError(
        f"{where}, but the argument{at} is {container!r} (type {type(container).__name__}) instead of a list, tuple or "
        f"dictionary with {depth} more {levels}: {remedy}."
    )


def root(slot: Slot) -> int | str:
    """Return the position or name of the argument that a slot is in."""
    return slot[0] if isinstance(slot, tuple) else slot  # type: ignore[return-value]


def value_at(slot: Slot, args: list[object], kwargs: dict[str, object], name: str) -> object:
    """Return the value in a slot of the arguments after the task has run.

    Raises
    ------
    TypeError
        If the task made a collection shorter, or removed a key. `name`: the task's, for the message.
    """
    start = root(slot)
    value: object = kwargs[start] if isinstance(start, str) else args[start]
    for key in slot[1:] if isinstance(slot, tuple) else ():
        try:
            value = value[key]  # type: ignore[index]
        except (LookupError, TypeError):
            at = "".join(f"[{each!r}]" for each in slot[1:])  # type: ignore[index]
            raise TypeError(
                f"{name} has removed element {at} of a collection that it writes: a task must not change the number of "
                "elements. To drop an element, assign None to it."
            ) from None
    return value


def with_elements(value: object, changed: Mapping[tuple[object, ...], object]) -> object:
    """Return a copy of a collection with some elements replaced; `changed`: the new ones, by indexes and keys."""
    if () in changed:
        return changed[()]
    below: dict[object, dict[tuple[object, ...], object]] = {}
    for path, new in changed.items():
        below.setdefault(path[0], {})[path[1:]] = new
    if isinstance(value, dict):
        return {key: with_elements(item, below[key]) if key in below else item for key, item in value.items()}
    assert isinstance(value, (list, tuple))
    items = [with_elements(item, below[i]) if i in below else item for i, item in enumerate(value)]
    return items if isinstance(value, list) else tuple(items)


def as_type_of(argument: object, path: str) -> object:
    """Return a path as the type that the program gave it: text, or a path object."""
    return type(argument)(path) if isinstance(argument, PurePath) else path
