"""`pycompss.api.reduction`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runmem.errors import TaskDeclarationError
from runmem.graph.task import TaskFunction

__all__ = ["REDUCTION", "Reduction", "reduction"]


def reduction(*, chunk_size: int | str = 0, is_reduce: bool = True) -> Callable[[Any], Any]:
    """Return a decorator for tasks: a call becomes a tree of calls over chunks of its collection.

    Parameters
    ----------
    chunk_size : int or str
        Number of values of a call, or its text, or ``"${VARIABLE}"`` of the environment. Default 2.
    is_reduce : bool
        Whether to split calls at all.
    """

    def decorate(decorated: Any) -> Any:
        below: Any = decorated.__func__ if isinstance(decorated, (staticmethod, classmethod)) else decorated
        while not isinstance(below, TaskFunction):
            if not hasattr(below, "__wrapped__"):
                raise TaskDeclarationError(
                    f"@reduction on {decorated!r}: it is not a task; put @task below @reduction."
                )
            below = below.__wrapped__
        below.with_options(is_reduce=is_reduce, chunk_size=chunk_size).declare(f"@reduction on {below.name}")
        return decorated

    return decorate


Reduction = REDUCTION = reduction
