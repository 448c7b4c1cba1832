"""Calls with a time limit, for functions that may never return, such as requests to a stopped process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["TimedFunction", "within"]

Value = TypeVar("Value")


class _ThreadCall(Generic[Value]):
    """A call in a thread of its own."""

    def __init__(self, function: Callable[..., Value], arguments: tuple[object, ...]) -> None:
        self.ended = threading.Event()
        self._function, self._arguments = function, arguments
        self._value: Value
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="runmem-limited", daemon=True).start()

    def _run(self) -> None:
        try:
            self._value = self._function(*self._arguments)
        except BaseException as error:
            self._error = error
        self.ended.set()

    def result(self, timeout_s: float) -> Value:
        if not self.ended.wait(timeout_s):
            name = getattr(self._function, "__name__", "the call")
            raise TimeoutError(f"{name} has not ended after {timeout_s:g} s")
        if self._error is not None:
            raise self._error
        return self._value


def within(seconds: float, function: Callable[..., Value], *arguments: object) -> Value:
    """Call a function in a thread and return its value, or raise its error.

    Raises
    ------
    TimeoutError
        If the call has not ended after `seconds`. It goes on, and its result is lost.
    """
    return _ThreadCall(function, arguments).result(seconds)


class TimedFunction(Generic[Value]):
    """A function with a time limit for each call. While a call is unfinished, no other one starts."""

    def __init__(self, function: Callable[..., Value]) -> None:
        self._function = function
        self._call: _ThreadCall[Value] | None = None

    def __call__(self, seconds: float, *arguments: object) -> Value:
        """Call the function as `within` does; `TimeoutError` also if an earlier call is still unfinished."""
        if self._call is not None:
            unfinished, self._call = self._call, None
            if not unfinished.ended.wait(seconds):
                self._call = unfinished
                raise TimeoutError(f"{self._function.__name__} has not ended since its last call")
        call = _ThreadCall(self._function, arguments)
        try:
            return call.result(seconds)
        except TimeoutError:
            self._call = call
            raise
