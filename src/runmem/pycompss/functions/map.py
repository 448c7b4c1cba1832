"""`pycompss.functions.map`."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["map"]


def map(function: Callable[..., Any], *iterables: Iterable[Any]) -> list[Any]:
    """Call a function, mostly a task, for the items of iterables; return the list of results or futures."""
    return list(builtins.map(function, *iterables))
