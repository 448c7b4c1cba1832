"""`timeMethod`: write the time and memory of calls to metadata, with the key names of LSST."""

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
"""Method of a peak that is the highest of the process so far, whichever call caused it."""

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
    """Write the time and memory of each call of a method to metadata, as ``lsst.utils.timer.timeMethod`` does.

    Each key is the method's name, ``Start`` or ``End``, and: ``Utc`` (ISO 8601), ``CpuTime``, ``UserTime``,
    ``SystemTime`` (seconds), ``MaxResidentSetSize`` (bytes), ``MinorPageFaults``, ``MajorPageFaults``, ``BlockInputs``,
    ``BlockOutputs``, ``VoluntaryContextSwitches``, ``InvoluntaryContextSwitches``. Every call, even one that raises,
    appends a value to each. Further keys are ``__version__`` (1), ``nodeName`` and ``platform`` (`sys.platform` of the
    writer), and for each call ``<method>PeakMethod``: ``hwm`` (exact), ``sampled`` (a lower bound) or ``contaminated``,
    followed by ``, shared`` if a call in another thread overlapped (an upper bound). If a peak is only sampled, or
    missing, ``<method>PeakReason`` has the reason.

    Parameters
    ----------
    metadata : TaskMetadata, mutable mapping or object with ``add(name, value)``, optional
        Destination; default the attribute ``metadata`` of the method's object. Without either nothing is written.
    logger : logging.Logger, optional
        The values are also logged, at `logLevel`, by the logger ``timer.<its name>``; default the object's ``log``.
    logLevel : int
    contaminated : bool
        Write the original's value: the highest resident set size of the process so far, whichever call caused it,
        including the peak inherited from the parent process.

    Raises
    ------
    SettingError
        (a `TypeError`) For an asynchronous generator, whose end cannot be timed.

    Notes
    -----
    ``EndMaxResidentSetSize`` is the highest resident set size of the process between the start and the end of the call:
    the kernel's high-water mark, which is reset at the start. ``StartMaxResidentSetSize`` is the size at the start. An
    outer call includes inner calls, so its peak is never lower.

    Assumption: nothing else resets the mark of the process. Limitations: child processes are not included; if a call in
    another thread overlaps, the peak is that of both. A coroutine or generator is measured from its first step to its
    end, including code that runs in between; overlapping ones are labelled shared. If a measurement fails, this is
    logged, and the method is not affected. ``LSST_UTILS_DISABLE_TIMER`` in the environment disables the decorator.

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
                f"{func.__qualname__} is an asynchronous generator, and the end of its calls cannot be timed: "
                "put @timeMethod on the coroutine that reads it."
            )
        if inspect.iscoroutinefunction(func):

            async def wrapper(*args: object, **kwargs: object) -> Any:
                import asyncio  # here, since its import is slow and most programs do not need it

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
    """Write the start and the end of the calls of one method."""

    def __init__(self, name: str, metadata: Any, logger: Any, level: int, contaminated: bool) -> None:
        self._name = name
        self._start_keys, self._end_keys = (_keys(name + moment) for moment in ("Start", "End"))
        self._metadata, self._logger, self._level = metadata, logger, level
        self._contaminated = contaminated

    def call(self, args: tuple[object, ...], within: object = None) -> AbstractContextManager[object]:
        """Return a context that measures the code inside."""
        stack = ExitStack()  # a `contextmanager` would set attributes of exceptions raised inside
        stack.callback(self.end, args, self.start(args, within))
        return stack

    def start(self, args: tuple[object, ...], within: object = None) -> Window | None:
        """Write the values of the start and return the open window of the peak."""
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
        """Return the keys and values for the method of the peak."""
        if reading is None:
            return [(f"{self._name}PeakMethod", CONTAMINATED)]
        reason: _Pairs = [] if reading.reason is None else [(f"{self._name}PeakReason", reading.reason)]
        if reading.peak_bytes is None:
            return reason
        return [(f"{self._name}PeakMethod", reading.how), *reason]

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
            if timer_log.isEnabledFor(self._level):  # the caller of the method is three frames up
                text = "; ".join(f"{name}={value}" for name, value in pairs[1:])  # without the time, which the log has
                timer_log.log(self._level, text, stacklevel=4)


_ITEMS = (
    "Utc", "CpuTime", "UserTime", "SystemTime", "MaxResidentSetSize", "MinorPageFaults", "MajorPageFaults",
    "BlockInputs", "BlockOutputs", "VoluntaryContextSwitches", "InvoluntaryContextSwitches",
)  # fmt: skip


def _keys(prefix: str) -> tuple[str, ...]:
    return tuple(prefix + item for item in _ITEMS)


def _usage(keys: tuple[str, ...], size_bytes: int | None, contaminated: bool) -> _Pairs:
    """Return the resource usage of the process by key, without a size if unreadable."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    if contaminated:
        size_bytes = usage.ru_maxrss * _maxrss_unit_bytes()
    values = (
        datetime.now(UTC).isoformat(), time.process_time(), usage.ru_utime, usage.ru_stime, size_bytes,
        usage.ru_minflt, usage.ru_majflt, usage.ru_inblock, usage.ru_oublock, usage.ru_nvcsw, usage.ru_nivcsw,
    )  # fmt: skip
    return [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]


def _maxrss_unit_bytes() -> int:
    """Return the unit of `ru_maxrss` on this platform."""
    if sys.platform == "darwin":
        return 1
    return resource.getpagesize() if sys.platform.startswith("sunos") else 1024


def _adder(metadata: Any) -> Callable[[str, object], None]:
    """Return a function that appends a value to metadata: TaskMetadata, a PropertySet of LSST, or a mapping."""
    add: Callable[[str, object], None] | None = getattr(metadata, "add", None)
    if add is None:
        return lambda name, value: metadata.setdefault(name, []).append(value)
    add_long_long = getattr(metadata, "addLongLong", None)
    if add_long_long is None:
        return add

    def add_any(name: str, value: object) -> None:
        # In a PropertySet small and large integers have different types, and an array has only one type.
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        (add_long_long if is_integer else add)(name, value)

    return add_any
