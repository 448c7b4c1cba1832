"""Correct the peaks that LSST's ``timeMethod`` writes to those of the timed method.

``lsst.utils.timer`` writes ``ru_maxrss``: the highest resident set size since the process started, whichever task or
method caused it. Resetting the kernel's high-water mark lowers that number too, but never below the peak of the parent
process, and each of several timed methods in a task would still include those before it. So the value is replaced where
it is read. LSST's files are not changed: two functions of the module are wrapped when it is imported.
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
from contextlib import suppress
from typing import Any

from runmem.memory.peak import PeakMeter, Window, process_meter

__all__ = ["ORIGINAL_PEAKS", "correct_lsst_timer"]

log = logging.getLogger(__name__)

ORIGINAL_PEAKS = "RUNMEM_ORIGINAL_LSST_PEAKS"
"""Environment variable of a worker: if set to anything but 0, LSST's metadata keep LSST's own readings."""

_MODULE = "lsst.utils.timer"
_WRAPPER = "timeMethod_wrapper"
_FIELD = "maxResidentSetSize"
_PREFIX_POSITION, _METADATA_POSITION, _STACKLEVEL_POSITION = 1, 3, 6  # of logInfo's parameters


def correct_lsst_timer() -> None:
    """Make ``lsst.utils.timer`` write the peak of each timed method inside measured windows, now or when imported.

    For a method ``m``, ``mStartMaxResidentSetSize`` is then the resident set size at its start and
    ``mEndMaxResidentSetSize`` its highest value until the method ended or raised, including the methods that it calls.
    Other values (``prep``, ``init``, ``start`` and ``end`` of a quantum) are the highest size since the outermost
    window of the thread began, which is the runmem task. Bytes, as in the original. Beside each peak,
    ``mPeakMethod`` (and ``endPeakMethod`` of a quantum) says how it was measured, as `runmem.timeMethod` writes it, so
    that readers know it from a value of the original.

    Assumption: ``timeMethod`` calls ``logInfo`` of its module before and after the method, which takes the usage from
    ``_get_current_rusage``; otherwise a warning is logged and the values are the original's. Limitations: as for
    `PeakMeter`, child processes are not included, and methods that overlap in several threads include each other's
    memory. Outside measured windows, and in ``time_this``, the values are the original's.
    """
    if os.environ.get(ORIGINAL_PEAKS, "0") not in ("", "0"):
        return
    if (module := sys.modules.get(_MODULE)) is not None:
        _correct(module)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Correct the module right after its import; find nothing itself."""

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
        whole = "peaks in the metadata of LSST tasks are those of the whole process"
        log.warning("%s: this %s is not as expected (%s)", whole, _MODULE, misfit)
        return
    timed = module._runmem_timed_methods = _TimedMethods(process_meter())
    module._get_current_rusage = timed.corrected(module._get_current_rusage)
    module.logInfo = timed.following(module.logInfo)


def _misfit(module: Any) -> str | None:
    """Return the first unexpected property of the module, or None."""
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
    """Return the code named `name` inside the code of `function`, at any depth."""
    waiting = [getattr(function, "__code__", None)]
    while waiting:
        code = waiting.pop()
        if isinstance(code, types.CodeType):
            if code.co_name == name:
                return code
            waiting.extend(code.co_consts)
    return None


class _Values(threading.local):
    """The open timed methods of one thread, outermost first, and the value to write next."""

    def __init__(self) -> None:
        self.open: list[tuple[types.FrameType, Window]] = []
        self.next_bytes: int | None = None
        self.next_method: str | None = None


class _TimedMethods:
    """Open a window at the start of each timed method and close it at its end."""

    def __init__(self, meter: PeakMeter) -> None:
        self._meter = meter
        self._here = _Values()

    def corrected(self, usage: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `usage` to return the measured peak, if there is one."""

        @functools.wraps(usage)
        def current_usage(for_children: bool = False) -> Any:
            found = usage(for_children)
            here = self._here
            peak = None if for_children else self._meter.so_far() if here.next_bytes is None else here.next_bytes
            return found if peak is None else dataclasses.replace(found, **{_FIELD: peak})

        return current_usage

    def following(self, log_info: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `log_info`, which `timeMethod` calls at the start and at the end, to open and close a window."""

        @functools.wraps(log_info)
        def log_info_of_window(*args: Any, **kwargs: Any) -> Any:
            frame = sys._getframe(1)
            here = self._here
            if frame.f_code.co_name == _WRAPPER:
                self._open_or_close(frame)
            if len(args) < _STACKLEVEL_POSITION:  # the log message names the caller, not this function
                kwargs["stacklevel"] = (kwargs.get("stacklevel") or 1) + 1
            try:
                log_info(*args, **kwargs)
                self._write_method(args, kwargs)
            except BaseException:
                if here.open and here.open[-1][0] is frame:  # the method will not be called
                    self._meter.stop(here.open.pop()[1])
                raise
            finally:
                here.next_bytes = here.next_method = None

        return log_info_of_window

    def _write_method(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Write to the metadata how the peak at an end was measured, if it was."""
        prefix = kwargs.get("prefix", args[_PREFIX_POSITION] if len(args) > _PREFIX_POSITION else "")
        if not prefix.lower().endswith("end"):
            return
        here = self._here
        method = self._meter.method_so_far() if here.next_bytes is None else here.next_method
        metadata = kwargs.get("metadata", args[_METADATA_POSITION] if len(args) > _METADATA_POSITION else None)
        if metadata is None:
            metadata = getattr(args[0] if args else kwargs.get("obj"), "metadata", None)
        if method is None or metadata is None:
            return
        name = f"{prefix.removesuffix('End')}PeakMethod"
        with suppress(Exception):  # a kind of metadata that is not known: the peak itself is written
            if hasattr(metadata, "add"):
                metadata.add(name, method)
            else:
                metadata.setdefault(name, []).append(method)

    def _open_or_close(self, frame: types.FrameType) -> None:
        """Open a window at the first call from a wrapper's frame, and close it at the second."""
        here = self._here
        self._leave_abandoned(frame)
        if here.open and here.open[-1][0] is frame:
            reading = self._meter.stop(here.open.pop()[1])
            here.next_bytes, here.next_method = reading.peak_bytes, reading.how
        elif self._meter.so_far() is not None:
            window = self._meter.start()
            here.open.append((frame, window))
            here.next_bytes = window.base_bytes

    def _leave_abandoned(self, frame: types.FrameType) -> None:
        """Close the windows of wrappers that ended between their two calls, as by an interrupt."""
        here = self._here
        while here.open and not _is_below(frame, here.open[-1][0]):
            self._meter.stop(here.open.pop()[1])


def _is_below(frame: types.FrameType | None, caller: types.FrameType) -> bool:
    while frame is not None and frame is not caller:
        frame = frame.f_back
    return frame is not None
