"""Run a generator or a coroutine with a context around each of its steps, but not between them."""

from __future__ import annotations

import types
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

__all__ = ["steps"]

Around = Callable[[], AbstractContextManager[object]]


@types.coroutine
def steps(inner: Any, around: Around) -> Generator[object, object, object]:
    """Run ``yield from inner`` or ``await inner``, with each step inside ``with around()``.

    Parameters
    ----------
    inner : generator, coroutine, or a step of an asynchronous generator
    around : callable
        Returns a context manager.
    """
    value: object = None
    error: BaseException | None = None
    while True:
        try:
            with around():
                item = inner.send(value) if error is None else inner.throw(error)
        except StopIteration as stop:
            return stop.value
        value, error = None, None
        try:
            value = yield item
        except GeneratorExit:
            with around():
                inner.close()
            raise
        except BaseException as thrown:
            error = thrown
