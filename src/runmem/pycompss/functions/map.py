"""`pycompss.functions.map`."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from typing import TypeVar

__all__ = ["map"]

Result = TypeVar("Result")


def map(function: Callable[..., Result], *iterables: Iterable[object]) -> list[Result]:
    """Call a function, mostly a task, for the items of iterables; return the list of results or futures."""
    return list(builtins.map(function, *iterables))
