"""Calls that may never come back, such as those to a cluster one of whose processes is stopped: waited for so long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["TimedFunction", "within"]

Value = TypeVar("Value")


class _ThreadCall:
    """A call that goes on in a thread of its own."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self._function, self._arguments = function, arguments
        threading.Thread(target=self._run, name="runmem-limited", daemon=True).start()

    def _run(self) -> None:
        try:
            self.value = self._function(*self._arguments)
        except BaseException as error:
            self.error = error
        self.ended.set()


def within(seconds: float, function: Callable[..., Value], *arguments: Any) -> Value:
    """Return what a function returns, or raise what it raises; it runs in a thread of its own.

    Raises
    ------
    TimeoutError
        If it has not ended after so long. It goes on, and what becomes of it is not told.
    """
    return _outcome(_ThreadCall(function, arguments), seconds, function)


def _outcome(call: _ThreadCall, seconds: float, function: Callable[..., Value]) -> Value:
    if not call.ended.wait(seconds):
        raise TimeoutError(f"{getattr(function, '__name__', 'the call')} has not ended after {seconds:g} s")
    if call.error is not None:
        raise call.error
    value: Value = call.value
    return value


class TimedFunction:
    """The same for a function that is called again and again: while one call has not come back, no other begins."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._call: _ThreadCall | None = None

    def __call__(self, seconds: float, *arguments: Any) -> Any:
        """Return what the function returns; `TimeoutError` also if an earlier call is still under way after so long."""
        if self._call is not None:
            stuck, self._call = self._call, None
            if not stuck.ended.wait(seconds):
                self._call = stuck
                raise TimeoutError(f"{self._function.__name__} has not ended since it was called last")
        call = _ThreadCall(self._function, arguments)
        try:
            return _outcome(call, seconds, self._function)
        except TimeoutError:
            self._call = call
            raise
