"""The peaks that LSST's ``timeMethod`` writes, made those of the timed method.

``lsst.utils.timer`` writes ``ru_maxrss``: the highest resident set size since the process started, whichever task or
method it owed it to. Resetting the kernel's high-water mark lowers that number too, but never below what the process
that started this one had reached, and of several timed methods in one task each would still hold those before it. So
the value is replaced where it is read. LSST's files are not changed: two functions of the module are wrapped when it is
imported.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import sys
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any

from runmem.memory.peak import PeakMeter, Window, process_meter

__all__ = ["ORIGINAL_PEAKS", "correct_lsst_timer"]

log = logging.getLogger(__name__)

ORIGINAL_PEAKS = "RUNMEM_ORIGINAL_LSST_PEAKS"
"""Environment variable of a worker: set to anything but 0, LSST's metadata hold what LSST itself reads."""

_MODULE = "lsst.utils.timer"
_WRAPPER = "timeMethod_wrapper"
_FIELD = "maxResidentSetSize"
_STACKLEVEL_POSITION = 6  # of logInfo's parameters


def correct_lsst_timer() -> None:
    """Let ``lsst.utils.timer`` write, inside measured windows, the peak of each timed method; now or when imported.

    Of a method ``m`` then ``mStartMaxResidentSetSize`` is the resident set size when it started and
    ``mEndMaxResidentSetSize`` its highest value until the method ended, however it ended; a method holds those that it
    calls. What else is written (``prep``, ``init``, ``start`` and ``end`` of a quantum) is the highest value since the
    outermost window of the thread began, which is the runmem task. Bytes, as in the original.

    Notes
    -----
    Assumption: ``timeMethod`` calls ``logInfo`` of its module before and after the method, and that takes the usage
    from ``_get_current_rusage``; where it does not, the log says so once and the values are the original's.
    Limitations: as those of `PeakMeter`: children are not in it, and methods that overlap in several threads of a
    process see each other's memory. Outside of measured windows the values are the original's; so are those of
    ``time_this``.
    """
    if os.environ.get(ORIGINAL_PEAKS, "0") not in ("", "0"):
        return
    if (module := sys.modules.get(_MODULE)) is not None:
        _correct(module)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Corrects the module right after it was imported; finds nothing itself."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _MODULE or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_correct(module: types.ModuleType) -> None:
                execute(module)
                _correct(module)

            spec.loader.exec_module = execute_and_correct  # type: ignore[method-assign]
        return spec


def _correct(module: Any) -> None:
    if getattr(module, "_runmem_timed_methods", None) is not None:
        return
    if (misfit := _misfit(module)) is not None:
        log.warning(
            "peaks in the metadata of LSST tasks are those of the whole process: this %s is not as expected (%s)",
            _MODULE, misfit,
        )  # fmt: skip
        return
    timed = module._runmem_timed_methods = _TimedMethods(process_meter())
    module._get_current_rusage = timed.corrected(module._get_current_rusage)
    module.logInfo = timed.following(module.logInfo)


def _misfit(module: Any) -> str | None:
    """Return what is not as it must be, or None."""
    log_info, usage = getattr(module, "logInfo", None), getattr(module, "_get_current_rusage", None)
    if not isinstance(log_info, types.FunctionType) or not callable(usage):
        return "logInfo or _get_current_rusage is missing"
    if "_get_current_rusage" not in log_info.__code__.co_names:
        return "logInfo does not call _get_current_rusage"
    wrapper = _code_in(getattr(module, "timeMethod", None), _WRAPPER)
    if wrapper is None or "logInfo" not in wrapper.co_names:
        return f"timeMethod has no {_WRAPPER} that calls logInfo"
    try:
        now = usage()
        if type(getattr(now, _FIELD)) is not int:
            return f"{_FIELD} is {getattr(now, _FIELD)!r}"
        dataclasses.replace(now, **{_FIELD: 1})
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def _code_in(function: Any, name: str) -> types.CodeType | None:
    """Return the code called `name` inside the code of `function`, at any depth."""
    waiting = [getattr(function, "__code__", None)]
    while waiting:
        code = waiting.pop()
        if isinstance(code, types.CodeType):
            if code.co_name == name:
                return code
            waiting.extend(code.co_consts)
    return None


class _Values(threading.local):
    """What one thread is in: the timed methods, the outermost first, and the value that is to be written next."""

    def __init__(self) -> None:
        self.open: list[tuple[types.FrameType, Window]] = []
        self.next_bytes: int | None = None


class _TimedMethods:
    """Opens a window at the start of each timed method and closes it at its end."""

    def __init__(self, meter: PeakMeter) -> None:
        self._meter = meter
        self._here = _Values()

    def corrected(self, usage: Callable[..., Any]) -> Callable[..., Any]:
        """Return `usage` with the peak replaced by the one that is known, if one is."""

        @functools.wraps(usage)
        def current_usage(for_children: bool = False) -> Any:
            found = usage(for_children)
            here = self._here
            peak = None if for_children else self._meter.so_far() if here.next_bytes is None else here.next_bytes
            return found if peak is None else dataclasses.replace(found, **{_FIELD: peak})

        return current_usage

    def following(self, log_info: Callable[..., Any]) -> Callable[..., Any]:
        """Return `log_info`, which `timeMethod` calls at the start and at the end, with a window opened and closed."""

        @functools.wraps(log_info)
        def log_info_of_window(*args: Any, **kwargs: Any) -> Any:
            frame = sys._getframe(1)
            here = self._here
            if frame.f_code.co_name == _WRAPPER:
                self._turn(frame)
            if len(args) < _STACKLEVEL_POSITION:  # a log message shall name the caller, not us
                kwargs["stacklevel"] = (kwargs.get("stacklevel") or 1) + 1
            try:
                return log_info(*args, **kwargs)
            except BaseException:
                if here.open and here.open[-1][0] is frame:  # the method will not be called, nor its end told
                    self._meter.stop(here.open.pop()[1])
                raise
            finally:
                here.next_bytes = None

        return log_info_of_window

    def _turn(self, frame: types.FrameType) -> None:
        """Take the first call from a wrapper's frame as the start of its method, and the second as its end."""
        here = self._here
        self._leave_abandoned(frame)
        if here.open and here.open[-1][0] is frame:
            here.next_bytes = self._meter.stop(here.open.pop()[1]).peak_bytes
        elif self._meter.so_far() is not None:
            window = self._meter.start()
            here.open.append((frame, window))
            here.next_bytes = window.base_bytes

    def _leave_abandoned(self, frame: types.FrameType) -> None:
        """Close the windows of wrappers that were left between their two calls, as by an interrupt."""
        here = self._here
        while here.open and not _is_below(frame, here.open[-1][0]):
            self._meter.stop(here.open.pop()[1])


def _is_below(frame: types.FrameType | None, caller: types.FrameType) -> bool:
    while frame is not None and frame is not caller:
        frame = frame.f_back
    return frame is not None
