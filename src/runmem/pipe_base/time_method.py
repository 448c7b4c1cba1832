"""`timeMethod`: what a call took of time and memory, written into metadata under the names that LSST gives them."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from typing import Any, TypeVar, overload

from runmem.errors import SettingError
from runmem.memory.peak import PeakReading, Window, process_meter
from runmem.pipe_base.metadata import METADATA_VERSION

__all__ = ["CONTAMINATED", "timeMethod"]

CONTAMINATED = "contaminated"
"""Method of a peak that is the process's highest up to then, whichever call it owes it to."""

_F = TypeVar("_F", bound=Callable[..., Any])
_Pairs = list[tuple[str, object]]

log = logging.getLogger(__name__)


@overload
def timeMethod(_func: _F) -> _F: ...
@overload
def timeMethod(
    *, metadata: object = None, logger: object = None, logLevel: int = logging.DEBUG, contaminated: bool = False
) -> Callable[[_F], _F]: ...


def timeMethod(
    _func: Any = None,
    *,
    metadata: object = None,
    logger: object = None,
    logLevel: int = logging.DEBUG,
    contaminated: bool = False,
) -> Any:
    """Write the time and memory of each call of a method into metadata, as ``lsst.utils.timer.timeMethod`` does.

    Each key is the method's name, ``Start`` or ``End``, and: ``Utc`` (ISO 8601), ``CpuTime``, ``UserTime``,
    ``SystemTime`` (seconds), ``MaxResidentSetSize`` (bytes), ``MinorPageFaults``, ``MajorPageFaults``, ``BlockInputs``,
    ``BlockOutputs``, ``VoluntaryContextSwitches``, ``InvoluntaryContextSwitches``. Every call appends a value to each,
    also a call that raises. Beside them stand ``__version__`` (1), ``nodeName`` and ``platform`` (`sys.platform` of
    the writer), and for each call ``<method>PeakMethod``: ``hwm`` (exact), ``sampled`` (a lower bound) or
    ``contaminated``, and ``, shared`` after it where a call in another thread overlapped (an upper bound); where a peak
    is only sampled, or missing, ``<method>PeakReason`` says why.

    Parameters
    ----------
    metadata : TaskMetadata, mutable mapping or object with ``add(name, value)``, optional
        Where to write; default the attribute ``metadata`` of the method's object. With neither nothing is written.
    logger : logging.Logger, optional
        Told of the values too, at `logLevel`, by the logger ``timer.<its name>``; default the object's ``log``.
    logLevel : int
    contaminated : bool
        Write the original's value: the highest resident set size of the process up to then, whichever call it was
        that reached it, what the process inherited from its parent included.

    Raises
    ------
    SettingError
        (a `TypeError`) For an asynchronous generator, which has no end that could be waited for.

    Notes
    -----
    ``EndMaxResidentSetSize`` is the highest resident set size of the process between the call's start and its end: the
    kernel's high-water mark, which is reset at the start. ``StartMaxResidentSetSize`` is the size at the start, which
    is what the mark was reset to. A call within another is part of it, so the outer peak is never less than the inner.

    Assumption: nothing else resets the mark of the process. Limitations: child processes are not in it; while a call
    in another thread overlaps, the peak is that of both. A coroutine is measured from its first step to its end, and a
    generator likewise; what runs in between belongs to it, and overlapping ones are labelled shared. A measurement
    that fails is logged and left out; the method never fails of it. ``LSST_UTILS_DISABLE_TIMER`` in the environment
    turns the decorator off.

    Examples
    --------
    ::

        class IsrTask:
            def __init__(self):
                self.metadata = TaskMetadata()

            @timeMethod
            def run(self, exposure):
                ...
    """

    def decorate(func: _F) -> _F:
        timer = _Timer(func.__name__, metadata, logger, logLevel, contaminated)
        wrapper: Any
        if inspect.isasyncgenfunction(func):
            raise _NotTimed(
                f"{func.__qualname__} is an asynchronous generator, and its calls have no end that could be timed: "
                "put @timeMethod on the coroutine that reads it."
            )
        if inspect.iscoroutinefunction(func):

            async def wrapper(*args: object, **kwargs: object) -> Any:
                import asyncio  # here: most programs do without, and it takes a while

                with timer.call(args, within=asyncio.current_task()):
                    return await func(*args, **kwargs)

        elif inspect.isgeneratorfunction(func):

            def wrapper(*args: object, **kwargs: object) -> Any:
                with timer.call(args):
                    return (yield from func(*args, **kwargs))

        else:

            def wrapper(*args: object, **kwargs: object) -> Any:
                started = timer.start(args)
                try:
                    return func(*args, **kwargs)
                finally:
                    timer.end(args, started)

        return functools.wraps(func)(wrapper)  # type: ignore[return-value]

    if "LSST_UTILS_DISABLE_TIMER" in os.environ:
        return (lambda func: func) if _func is None else _func
    return decorate if _func is None else decorate(_func)


class _NotTimed(SettingError, TypeError):
    """A function that cannot be timed."""


class _Timer:
    """Writes the start and the end of the calls of one method."""

    def __init__(self, name: str, metadata: Any, logger: Any, level: int, contaminated: bool) -> None:
        self._name = name
        self._start_keys, self._end_keys = (_keys(name + moment) for moment in ("Start", "End"))
        self._metadata, self._logger, self._level = metadata, logger, level
        self._contaminated = contaminated

    def call(self, args: tuple[object, ...], within: object = None) -> AbstractContextManager[Any]:
        """Measure what is done inside."""
        stack = ExitStack()  # not a `contextmanager`, which sets attributes of what is raised inside
        stack.callback(self.end, args, self.start(args, within))
        return stack

    def start(self, args: tuple[object, ...], within: object = None) -> Window | None:
        """Write the values of the start; return the open window of the peak."""
        window = None if self._contaminated else process_meter().start(within=within)
        try:
            pairs = _usage(self._start_keys, None if window is None else window.base_bytes, self._contaminated)
            metadata, logger = self._places(args)
            if metadata is not None:
                metadata["__version__"] = METADATA_VERSION
                metadata["nodeName"] = platform.node()
                metadata["platform"] = sys.platform
            self._write(metadata, logger, pairs)
        except Exception:
            log.warning("the start of %s could not be written", self._name, exc_info=True)
        return window

    def end(self, args: tuple[object, ...], window: Window | None) -> None:
        """Close the window and write the values of the end."""
        reading = None if window is None else process_meter().stop(window)
        try:
            pairs = _usage(self._end_keys, None if reading is None else reading.peak_bytes, self._contaminated)
            self._write(*self._places(args), pairs + self._peak_pairs(reading))
        except Exception:
            log.warning("the end of %s could not be written", self._name, exc_info=True)

    def _peak_pairs(self, reading: PeakReading | None) -> _Pairs:
        """Return how the peak was had."""
        if reading is None:
            return [(f"{self._name}PeakMethod", CONTAMINATED)]
        reason: _Pairs = [] if reading.reason is None else [(f"{self._name}PeakReason", reading.reason)]
        if reading.peak_bytes is None:
            return reason
        return [(f"{self._name}PeakMethod", f"{reading.method}{', shared' * reading.shared}"), *reason]

    def _places(self, args: tuple[object, ...]) -> tuple[Any, Any]:
        """Return the metadata and the logger of a call."""
        owner = args[0] if args else None
        metadata = getattr(owner, "metadata", None) if self._metadata is None else self._metadata
        return metadata, getattr(owner, "log", None) if self._logger is None else self._logger

    def _write(self, metadata: Any, logger: Any, pairs: _Pairs) -> None:
        if metadata is not None:
            add = _adder(metadata)
            for name, value in pairs:
                add(name, value)
        if logger is not None:
            timer_log = logging.getLogger(f"timer.{logger.name}")
            if timer_log.isEnabledFor(self._level):  # the caller of the method is three calls up
                text = "; ".join(f"{name}={value}" for name, value in pairs[1:])  # a log has times of its own
                timer_log.log(self._level, text, stacklevel=4)


_ITEMS = (
    "Utc", "CpuTime", "UserTime", "SystemTime", "MaxResidentSetSize", "MinorPageFaults", "MajorPageFaults",
    "BlockInputs", "BlockOutputs", "VoluntaryContextSwitches", "InvoluntaryContextSwitches",
)  # fmt: skip


def _keys(prefix: str) -> tuple[str, ...]:
    return tuple(prefix + item for item in _ITEMS)


def _usage(keys: tuple[str, ...], size_bytes: int | None, contaminated: bool) -> _Pairs:
    """Return what the process used up to now, by key; without a size where it could not be read."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    if contaminated:
        size_bytes = usage.ru_maxrss * _maxrss_unit_bytes()
    values = (
        datetime.now(UTC).isoformat(), time.process_time(), usage.ru_utime, usage.ru_stime, size_bytes,
        usage.ru_minflt, usage.ru_majflt, usage.ru_inblock, usage.ru_oublock, usage.ru_nvcsw, usage.ru_nivcsw,
    )  # fmt: skip
    return [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]


def _maxrss_unit_bytes() -> int:
    """Return what one of `ru_maxrss` is on this platform."""
    if sys.platform == "darwin":
        return 1
    return resource.getpagesize() if sys.platform.startswith("sunos") else 1024


def _adder(metadata: Any) -> Callable[[str, object], None]:
    """Return what appends a value to metadata: TaskMetadata, a PropertySet of LSST's, or a plain mapping."""
    add: Callable[[str, object], None] | None = getattr(metadata, "add", None)
    if add is None:
        return lambda name, value: metadata.setdefault(name, []).append(value)
    add_long_long = getattr(metadata, "addLongLong", None)
    if add_long_long is None:
        return add

    def add_any(name: str, value: object) -> None:
        # A PropertySet takes small and large integers for different types, and one array holds only one type.
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        (add_long_long if is_integer else add)(name, value)

    return add_any
