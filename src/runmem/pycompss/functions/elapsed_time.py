"""`pycompss.functions.elapsed_time`."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

__all__ = ["TIMEIT", "TimeIT", "TimeIt", "timeit"]


def timeit(*_: object, **__: object) -> Callable[[Callable[..., Any]], Callable[..., list[Any]]]:
    """Return a decorator: calls of the function return ``[result, seconds]``.

    Above `@task` the time is that of the submission; below `@task`, that of the task on its worker.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., list[Any]]:
        @functools.wraps(function)
        def timed(*args: object, **kwargs: object) -> list[Any]:
            start_s = time.perf_counter()
            result = function(*args, **kwargs)
            return [result, time.perf_counter() - start_s]

        return timed

    return decorate


TimeIt = TimeIT = TIMEIT = timeit
