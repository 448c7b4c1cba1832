"""What a call gives that is not a value yet: a coroutine, which is run to its end, or a generator, which is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType, TracebackType
from typing import Any

from runmem.errors import TaskDeclarationError

__all__ = ["refuse_generators", "settled", "values_of", "run_to_its_end"]


def refuse_generators(function: Any, where: str) -> None:
    """Raise TaskDeclarationError for a function whose calls give items one after the other."""
    call = function if inspect.isroutine(function) or isinstance(function, partial) else type(function).__call__
    if inspect.isgeneratorfunction(call):
        remedy = "collect them in the task (`return list(...)`, or append to a list and return it)"
    elif inspect.isasyncgenfunction(call):
        remedy = "collect them in the task (`return [item async for item in ...]`)"
    else:
        return
    raise TaskDeclarationError(
        f"{where}: it gives its items by `yield`, one after the other, and a generator cannot leave the process that "
        f"runs it: {remedy}."
    )


def settled(value: Any, name: str) -> Any:
    """Return what a call of the task `name` gave, a coroutine run to its end; TypeError for a generator."""
    kind = type(value)
    if kind is CoroutineType:
        return run_to_its_end(value)
    if kind is GeneratorType or kind is AsyncGeneratorType:
        raise TypeError(
            f"{name} returned a generator, which cannot leave the process that runs it: collect its items first "
            "(`return list(...)`)"
        )
    return value


def values_of(datum: Any) -> Any:
    """Return `datum` with what coroutines in it give in their places; lists, tuples and dictionaries are searched."""
    return _replaced(datum, {})


def _replaced(datum: Any, seen: dict[int, tuple[Any, Any]]) -> Any:
    """Return what takes the place of `datum`; `seen`: by identity, what was met (kept alive) and what it became."""
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
    """Return what a coroutine gives, or raise what it raises; in an event loop of its own."""
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
