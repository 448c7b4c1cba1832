"""Coroutines and generators that calls return: the worker runs them to their ends."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType, TracebackType
from typing import Any

from runmem.errors import TaskDeclarationError

__all__ = ["Items", "completed", "refuse_async_generators", "values_of", "run_to_its_end"]


class Items:
    """The items of a generator that was run to its end: what arrives in another process is a generator of them."""

    __slots__ = ("_items",)

    def __init__(self, items: list[object]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[object]:
        return iter(self._items)

    def __reduce__(self) -> tuple[object, ...]:
        return _generator, (self._items,)


def _generator(items: list[object]) -> Iterator[object]:
    yield from items


def refuse_async_generators(function: Any, where: str) -> None:
    """Raise TaskDeclarationError for an ``async def`` function with ``yield``."""
    call = function if inspect.isroutine(function) or isinstance(function, partial) else type(function).__call__
    if inspect.isasyncgenfunction(call):
        raise TaskDeclarationError(
            f"{where}: it gives its items by `yield`, one after the other, and an asynchronous generator cannot leave "
            "the process that runs it: collect them in the task (`return [item async for item in ...]`)."
        )


def completed(value: object, name: str) -> object:
    """Return the value of a call of the task `name`: the result of a coroutine, the items of a generator.

    Raises
    ------
    TypeError
        For an asynchronous generator.
    """
    kind = type(value)
    if kind is CoroutineType:
        return run_to_its_end(value)  # type: ignore[arg-type]
    if kind is GeneratorType:
        return Items(list(value))  # type: ignore[call-overload]
    if kind is AsyncGeneratorType:
        raise TypeError(
            f"{name} returned an asynchronous generator, which cannot leave the process that runs it: collect its "
            "items first (`return [item async for item in ...]`)"
        )
    return value


def values_of(datum: Any) -> Any:
    """Return `datum` with the results of coroutines in their places; lists, tuples and dictionaries are searched."""
    return _replaced(datum, {})


def _replaced(datum: Any, seen: dict[int, tuple[Any, Any]]) -> Any:
    """Return the replacement of `datum`; `seen`: objects met so far, by identity, each with its replacement."""
    kind = type(datum)
    if kind not in (CoroutineType, list, tuple, dict):
        return datum
    if id(datum) not in seen:
        seen[id(datum)] = datum, datum  # found again inside itself, it stays what it is
        if kind is CoroutineType:
            made = run_to_its_end(datum)
        elif kind is dict:
            made = {key: _replaced(item, seen) for key, item in datum.items()}
        else:
            made = kind(_replaced(item, seen) for item in datum)
        seen[id(datum)] = datum, made if kind is CoroutineType or _differs(made, datum) else datum
    return seen[id(datum)][1]


def _differs(made: Any, datum: Any) -> bool:
    new, old = (list(each.values()) if type(each) is dict else each for each in (made, datum))
    return any(one is not other for one, other in zip(new, old, strict=True))


def run_to_its_end(coroutine: CoroutineType[Any, Any, Any]) -> Any:
    """Run a coroutine to its end in a new event loop; return its result or raise its exception."""
    import asyncio  # here: most programs do without, and it takes a while

    code = coroutine.cr_code
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        run: Callable[[Any], Any] = asyncio.run
    else:
        run = _in_a_thread
    try:
        return run(coroutine)
    except BaseException as error:
        BaseException.with_traceback(error, _from(code, error.__traceback__))
        raise


def _in_a_thread(coroutine: Any) -> Any:
    """Run a coroutine to its end in a thread: this one has an event loop that runs, and waits."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor
    from contextvars import copy_context

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, asyncio.run, coroutine).result()


def _from(code: Any, trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback from the frame of `code` on: those above it are the event loop's."""
    below = trace
    while below is not None and below.tb_frame.f_code is not code:
        below = below.tb_next
    return below or trace
