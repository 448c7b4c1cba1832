"""`pycompss.functions.reduce`: reduces values or futures by a function of the user, usually a task.

Unlike PyCOMPSs, the functions keep the order of the list and do not change the list.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = [
    "mergeNReduce", "mergeReduce", "merge_n_reduce", "merge_reduce", "simpleReduce", "simple_reduce",
]  # fmt: skip


def merge_reduce(function: Callable[[Any, Any], Any], data: Iterable[Any]) -> Any:
    """Reduce values by a binary tree of calls of a function of two arguments; None for no values."""
    values = list(data)
    return merge_n_reduce(function, 2, values) if values else None


def merge_n_reduce(function: Callable[..., Any], arity: int, data: Sequence[Any]) -> Any:
    """Reduce values by a tree of calls, each of at most `arity` arguments.

    Raises
    ------
    ValueError
        For an arity below 2.
    IndexError
        For no values.
    """
    if arity < 2:
        raise ValueError(f"merge_n_reduce: arity={arity!r} is less than 2")
    values = list(data)
    while len(values) > 1:
        chunks = [values[start : start + arity] for start in range(0, len(values), arity)]
        values = [function(*chunk) if len(chunk) > 1 else chunk[0] for chunk in chunks]
    return values[0]


def simple_reduce(function: Callable[[Any, Any], Any], data: Iterable[Any]) -> Any:
    """Reduce values from left to right by a chain of calls, as `functools.reduce` does."""
    return functools.reduce(function, data)


def mergeNReduce(function: Callable[..., Any], data: Sequence[Any]) -> list[Any]:
    """Reduce values by calls with as many arguments as the function has; return the remaining values."""
    arity = len(inspect.signature(function).parameters)
    if arity < 2:
        raise ValueError(f"mergeNReduce: {function!r} has {arity} parameters, and at least 2 are needed")
    values = list(data)
    while len(values) >= arity:
        values = [*values[arity:], function(*values[:arity])]
    return values


mergeReduce, simpleReduce = merge_reduce, simple_reduce
