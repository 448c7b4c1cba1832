"""The elements of collections: lists, tuples and dictionaries, nested, each element tracked separately."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from runmem.errors import ArgumentError
from runmem.graph.call import Slot
from runmem.graph.future import Future

__all__ = ["Element", "as_type_of", "can_have_levels", "elements", "root", "set_element", "value_at", "with_elements"]

_CONTAINERS = (list, tuple, dict)


class _KeyAt(NamedTuple):
    """In a slot: the key at a position of a dictionary, for keys that are equal to themselves alone.

    A copy in another process has other keys, in the same order.
    """

    position: int


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


def elements(value: object, depth: int, argument: int | str, where: str, are_paths: bool = False) -> Iterator[Element]:
    """Yield the elements of a collection, `depth` levels down.

    Branches may be of different lengths. Where some branch has all levels, others may end earlier: an object in place
    of a list is an element.

    Parameters
    ----------
    are_paths : bool
        Whether the elements are paths: collections in place of one are searched too.

    Raises
    ------
    ArgumentError
        If no branch of the value has so many levels of lists, tuples or dictionaries; `where` names the parameter.
    """
    yield from _below(value, depth, (argument,), where, are_paths, _has_levels(value, depth))


def _has_levels(value: object, depth: int) -> bool:
    """Return True if some branch of a value has so many levels of containers."""
    if not isinstance(value, _CONTAINERS):
        return False
    items = value.values() if isinstance(value, dict) else value
    return depth == 1 or any(_has_levels(item, depth - 1) for item in items)


def can_have_levels(value: object, depth: int) -> bool:
    """Return True if a value that is only read may have so many levels of collections; also of arrays, and futures."""
    if isinstance(value, Future) or value is None:
        return True
    if not isinstance(value, _CONTAINERS):
        return isinstance(value, Iterable) and not isinstance(value, (str, bytes, bytearray))
    items = value.values() if isinstance(value, dict) else value
    return depth == 1 or not items or any(can_have_levels(item, depth - 1) for item in items)


def _below(
    container: object, depth: int, path: tuple[object, ...], where: str, are_paths: bool, may_end: bool
) -> Iterator[Element]:
    """Yield the elements in a container; `may_end`: whether an object above level `depth` is an element."""
    for key, value in _items(container, path, depth, where):
        here = (*path, key)
        if isinstance(value, _CONTAINERS):
            is_element = depth == 1 and not are_paths
        else:
            is_element = depth == 1 or may_end or value is None
        if is_element:
            yield Element(here, value, container)
        else:
            yield from _below(value, max(1, depth - 1), here, where, are_paths, may_end)


def _items(container: object, path: tuple[object, ...], depth: int, where: str) -> Iterable[tuple[object, object]]:
    if isinstance(container, dict):
        return [(_key_in_slot(key, position), item) for position, (key, item) in enumerate(container.items())]
    if isinstance(container, (list, tuple)):
        return list(enumerate(container))
    at = "".join(f"[{key!r}]" for key in path[1:])
    levels = "level" if depth == 1 else "levels"
    remedy = "wait for it first" if isinstance(container, Future) else "correct Depth, or pass nested lists"
    raise ArgumentError(
        f"{where}, but the argument{at} is {container!r} (type {type(container).__name__}) instead of a list, tuple or "
        f"dictionary with {depth} more {levels}: {remedy}."
    )


def _key_in_slot(key: object, position: int) -> object:
    return _KeyAt(position) if type(key).__hash__ is object.__hash__ else key


def _item(container: Any, key: object) -> object:
    return list(container.values())[key.position] if type(key) is _KeyAt else container[key]


def set_element(container: Any, key: Any, value: object) -> None:
    """Put a value in place of an element; `key`: the last entry of its slot."""
    if isinstance(container, dict) and type(key) is _KeyAt:
        key = list(container)[key.position]
    if isinstance(container, (list, dict)):
        container[key] = value


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
            value = _item(value, key)
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
        named = [(_key_in_slot(key, position), key, item) for position, (key, item) in enumerate(value.items())]
        return {key: with_elements(item, below[name]) if name in below else item for name, key, item in named}
    assert isinstance(value, (list, tuple))
    items = [with_elements(item, below[i]) if i in below else item for i, item in enumerate(value)]
    return items if isinstance(value, list) else tuple(items)


def as_type_of(argument: object, path: str) -> object:
    """Return a path as the type that the program gave it: text, or a path object."""
    return type(argument)(path) if isinstance(argument, PurePath) else path
