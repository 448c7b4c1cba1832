"""Steps of data sets: module functions, so that only the user's own functions are pickled by value."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = [
    "appended",
    "combined",
    "extended",
    "first",
    "flat_map",
    "flat_value",
    "in_list",
    "keep",
    "key",
    "length",
    "map_each",
    "map_value",
    "nothing",
    "products",
    "range_of",
    "reduced",
    "same",
    "sorted_pairs",
    "summed",
    "tagged",
    "value",
    "with_key",
    "with_none",
]

Pair = tuple[Any, Any]


def map_each(
    func: Callable[..., object], args: Sequence[object], kwargs: dict[str, object], elements: Iterable[object]
) -> list[object]:
    """Call a function for each element."""
    return [func(element, *args, **kwargs) for element in elements]


def flat_map(
    func: Callable[..., Iterable[object]], args: Sequence[object], kwargs: dict[str, object], elements: Iterable[object]
) -> list[object]:
    """Join the iterables that a function returns for the elements."""
    return [item for element in elements for item in func(element, *args, **kwargs)]


def keep(func: Callable[[object], object], elements: Iterable[object]) -> list[object]:
    """Keep the elements for which a function returns a true value."""
    return [element for element in elements if func(element)]


def nothing(elements: Iterable[object]) -> list[object]:
    """Drop all elements."""
    return []


def reduced(func: Callable[[object, object], object], elements: Iterable[object]) -> list[object]:
    """Reduce the elements to a list of at most one."""
    items = list(elements)
    return [functools.reduce(func, items)] if items else []


def summed(elements: Iterable[Any]) -> list[Any]:
    """Add up the elements."""
    return [sum(elements)]


def length(elements: Iterable[object]) -> list[int]:
    """Count the elements."""
    return [sum(1 for _ in elements)]


def combined(
    create: Callable[[object], object], combine: Callable[[object, object], object], pairs: Iterable[Pair]
) -> list[Pair]:
    """Combine the values of each key."""
    found: dict[object, object] = {}
    for key, value in pairs:
        found[key] = combine(found[key], value) if key in found else create(value)
    return list(found.items())


def sorted_pairs(key: Callable[[object], Any], ascending: bool, pairs: Iterable[Pair]) -> list[Pair]:
    """Sort pairs by a function of their keys."""
    return sorted(pairs, key=lambda pair: key(pair[0]), reverse=not ascending)


def range_of(bounds: list[Any], key: Callable[[object], Any], ascending: bool, value: object) -> int:
    """Return the number of the range of a key."""
    number = bisect.bisect_left(bounds, key(value))
    return number if ascending else len(bounds) - number


def same(value: object) -> object:
    """Return the value itself."""
    return value


def first(value: object, other: object) -> object:
    """Return the first value."""
    return value


def key(pair: Pair) -> object:
    """Return the key of a pair."""
    return pair[0]


def value(pair: Pair) -> object:
    """Return the value of a pair."""
    return pair[1]


def with_none(element: object) -> Pair:
    """Return an element as a key without a value."""
    return element, None


def with_key(func: Callable[[object], object], element: object) -> Pair:
    """Return an element with the key that a function gives it."""
    return func(element), element


def map_value(func: Callable[[object], object], pair: Pair) -> Pair:
    """Apply a function to the value of a pair."""
    return pair[0], func(pair[1])


def flat_value(func: Callable[[object], Iterable[object]], pair: Pair) -> list[Pair]:
    """Return a pair for each item that a function returns for the value."""
    return [(pair[0], item) for item in func(pair[1])]


def tagged(tag: int, value: object) -> tuple[int, object]:
    """Return a value with a tag."""
    return tag, value


def products(tagged: Iterable[tuple[int, object]]) -> list[Pair]:
    """Return all pairs of a value with tag 1 and one with tag 2."""
    pairs = list(tagged)
    return [(first, second) for tag, first in pairs if tag == 1 for other, second in pairs if other == 2]


def in_list(value: object) -> list[object]:
    """Return a list of the value."""
    return [value]


def appended(values: list[object], value: object) -> list[object]:
    """Append a value to a list."""
    values.append(value)
    return values


def extended(values: list[object], more: list[object]) -> list[object]:
    """Append a list to another."""
    values.extend(more)
    return values
