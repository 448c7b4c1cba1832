"""`@local`: functions of the program that get values where they are given futures."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from runmem.commands.contents import copy_contents
from runmem.commands.references import put_in_place
from runmem.graph.current import current_program
from runmem.graph.future import Future
from runmem.graph.synchronise import delete_object, wait_on

__all__ = ["local"]


def local(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function wait for what it is given: futures, and objects that tasks have written.

    Objects that tasks have written get their new contents in place, and the program's variables, lists and objects that
    refer to a future refer to its value from then on. The function runs in the program, at once.
    """

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if current_program() is None:
            return function(*args, **kwargs)
        values = [_value(argument) for argument in args]
        return function(*values, **{name: _value(argument) for name, argument in kwargs.items()})

    return called


def _value(argument: Any) -> Any:
    value = wait_on(argument)
    if type(argument) is Future:
        put_in_place(argument, value)
        return value
    if value is argument or not delete_object(argument):
        return value
    with suppress(TypeError):
        copy_contents(argument, value)
        return argument
    return value
