"""``@profile``: report the memory of every call of a function, line by line or in one line.

Use it under ``@task`` (reports the task, in the process that runs it), over ``@task`` (reports the call, in the
master), or on a plain function, method, generator or coroutine function.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import replace
from types import FunctionType
from typing import Any, TextIO, overload

from runmem.errors import SettingError
from runmem.memory.call_steps import steps
from runmem.memory.memray_capture import INSTALL_MEMRAY, memray_is_installed
from runmem.memory.profile_report import ProfileReport, set_job_name, set_report_sink
from runmem.memory.profiled_call import CallMeasurement, ReportOptions, Subject
from runmem.memory.recorded_call import RecordedCall
from runmem.memory.source import SourceBlock

__all__ = [
    "profile", "Profile", "ProfileReport", "record_call", "records_allocations", "set_report_sink", "set_job_name",
]  # fmt: skip

_BACKENDS = {"psutil": True, "posix": True, "psutil_pss": False, "psutil_uss": False, "tracemalloc": False}
_MEMRAY = "memray"
_MARK = "__runmem_records_allocations__"
_MOST_DECORATORS = 100  # over one function; an object may claim to wrap itself


@overload
def profile(func: Callable[..., Any]) -> Callable[..., Any]: ...
@overload
def profile(
    func: None = None,
    full_report: bool = True,
    precision: int = 1,
    backend: str = "psutil",
    stream: TextIO | None = None,
    peak: bool | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
def profile(
    func: Any = None,
    full_report: bool = True,
    precision: int = 1,
    backend: str = "psutil",
    stream: TextIO | None = None,
    peak: bool | None = None,
) -> Any:
    """Report the memory of every call of `func`, including calls that raise.

    Parameters
    ----------
    func : callable
        The function to decorate; without it the decorator is returned.
    full_report : bool
        True: a table of the function's lines, then job name, start, elapsed time, and initial, final and peak memory of
        this process. False: the line ``<file> <function> <peak> MiB``.
    precision : int
        Decimals of the sizes in MiB.
    backend : str
        ``memray`` (extra ``memray``): record all allocations of a call, native ones too, as memray does. The report has
        the largest ones in place of the lines; the run directory gets the file of memray and its flame graph. Else,
        sizes are resident set sizes, as with ``psutil`` and ``posix``; the other names of memory_profiler are accepted
        with a warning.
    stream : text file, optional
        Output for the report instead of standard output, in this process; it is not sent to workers.
    peak : bool, optional
        Whether the table has a column ``Peak``: the highest size while the line ran, so that memory that a line takes
        and gives back is seen. Default: as the setting ``profile_peak`` says. Needs a full report.

    Raises
    ------
    SettingError
        If `backend` or `precision` is not valid, `peak` is True without a table of lines, or another `@profile` of the
        function has the other kind of backend.

    Notes
    -----
    The report is printed to the file in the environment variable ``COMPSS_PROFILING_FILE``, if set.

    Assumptions: the peak is that of the process during the call, from the kernel's high-water mark. Limitations: a full
    report makes each line about two microseconds slower, and makes the allocator return freed blocks of 128 KiB or more
    to the kernel at once, for the rest of the process; otherwise the table would show no change; with `peak`, a line
    that takes memory becomes about ten microseconds slower. The time that a
    generator or coroutine is suspended counts for its peak, but not for its lines.
    """
    if backend not in (*_BACKENDS, _MEMRAY):
        known = ", ".join((*_BACKENDS, _MEMRAY))
        raise SettingError(f"profile(backend={backend!r}): unknown backend; use one of {known}.")
    if not isinstance(precision, int) or precision < 0:
        raise SettingError(f"profile(precision={precision!r}): use the number of decimals, 0 or more.")
    if backend == _MEMRAY:
        _check_memray(peak)
    elif not _BACKENDS[backend]:
        warnings.warn(f"profile(backend={backend!r}) still reports resident set sizes.", stacklevel=2)
    if peak and not full_report:
        raise SettingError("profile(full_report=False, peak=True): the peaks of lines are a column of the full report.")
    options = ReportOptions(full_report, precision, stream, peak, records_allocations=backend == _MEMRAY)
    if func is None:
        return functools.partial(_decorate, options=options)
    return _decorate(func, options)


Profile = profile


def _check_memray(peak: bool | None) -> None:
    if peak:
        raise SettingError('profile(backend="memray", peak=True): only other backends measure the peaks of lines.')
    if not memray_is_installed():
        warnings.warn(
            f'profile(backend="memray"): memray is not installed here, so allocations are not recorded: '
            f"{INSTALL_MEMRAY}",
            stacklevel=3,
        )


def _check_backends(func: Any, options: ReportOptions) -> None:
    """Raise SettingError if a function is profiled in both ways, since memray's memory would be in the other table."""
    below = records_allocations(func)
    if below is not None and below != options.records_allocations:
        raise SettingError(
            f'profile(backend="memray") on {getattr(func, "__qualname__", func)}: the function has another @profile '
            "with another backend, whose sizes would include memray's own memory. Leave one of them out."
        )


def records_allocations(func: Any) -> bool | None:
    """Return whether the `@profile` of a function records allocations; None if it has none."""
    return getattr(func, _MARK, None) if isinstance(func, FunctionType) else None


def record_call(func: Any, name: str) -> RecordedCall:
    """Return a context that records the allocations of one call of `func`, with its report, as of `name`."""
    subject = _subject(func, None)
    return RecordedCall(replace(subject, name=name), ReportOptions(records_allocations=True))


def _decorate(func: Any, options: ReportOptions) -> Any:
    if isinstance(func, (staticmethod, classmethod)):
        return type(func)(_decorate(func.__func__, options))
    _check_backends(func, options)
    profiled = _Profiled(func, options)
    wrapper = _wrapper(func, profiled)
    functools.update_wrapper(wrapper, func)
    setattr(wrapper, _MARK, options.records_allocations)  # decorators above it copy this
    wrapper.__name__ = getattr(func, "__name__", profiled.subject.name)
    wrapper.__qualname__ = getattr(func, "__qualname__", wrapper.__name__)
    if not isinstance(func, FunctionType):
        _pass_through(func, wrapper)
    return wrapper


def _wrapper(func: Any, profiled: _Profiled) -> Any:
    """Return a wrapper of the same kind as `func`.

    It is a plain function, so that it binds as a method. It refers only to `profiled`, since cloudpickle, which sends a
    function of the main program by value, copies all globals that it refers to.
    """
    call = func if inspect.isroutine(func) or isinstance(func, functools.partial) else type(func).__call__
    if inspect.iscoroutinefunction(call):

        async def coroutine_wrapper(*args: object, **kwargs: object) -> object:
            return await profiled.run_coroutine(args, kwargs)

        return coroutine_wrapper
    if inspect.isasyncgenfunction(call):

        def async_generator_wrapper(*args: object, **kwargs: object) -> object:
            return profiled.run_async_generator(args, kwargs)

        return async_generator_wrapper
    if inspect.isgeneratorfunction(call):

        def generator_wrapper(*args: object, **kwargs: object) -> Generator[object, object, object]:
            return (yield from profiled.run_generator(args, kwargs))

        return generator_wrapper

    def wrapper(*args: object, **kwargs: object) -> object:
        return profiled.run(args, kwargs)

    return wrapper


def _pass_through(func: Any, wrapper: Any) -> None:
    """Copy the public attributes of `func`, an object such as a task, to `wrapper`."""
    for name in dir(func):
        if not name.startswith("_") and name not in wrapper.__dict__:
            try:
                wrapper.__dict__[name] = getattr(func, name)
            except Exception:  # a property of the user's object that fails
                continue


def _subject(func: Any, source: SourceBlock | None) -> Subject:
    """Return the function that the user wrote, below decorators, tasks, partials and bound methods."""
    raw = func
    for _ in range(_MOST_DECORATORS):
        below = _below(raw)
        if below is None:
            break
        raw = below
    name = getattr(raw, "__name__", type(raw).__name__)
    if not isinstance(raw, FunctionType):
        raw = inspect.getattr_static(type(raw), "__call__", None)
    if isinstance(raw, FunctionType):
        return Subject(name, raw.__code__.co_filename, raw.__code__, raw.__globals__, source)
    return Subject(name, f"<{getattr(func, '__module__', None) or 'unknown'}>", None, None, source)


def _below(raw: Any) -> Any:
    """Return the function that `raw` wraps, or None."""
    if isinstance(raw, functools.partial):
        return raw.func
    if inspect.ismethod(raw):
        return raw.__func__
    for attribute in ("__wrapped__",) if isinstance(raw, FunctionType) else ("function", "__wrapped__"):
        if callable(below := getattr(raw, attribute, None)):
            return below
    return None


class _Profiled:
    """A decorated function; each `run` is a call of it."""

    def __init__(self, func: Any, options: ReportOptions) -> None:
        self._func = func
        self._source: SourceBlock | None = None
        self._options = options

    @functools.cached_property
    def subject(self) -> Subject:
        """The function that is profiled, looked up in each process, since its code differs."""
        return _subject(self._func, self._source)

    def __getstate__(self) -> dict[str, object]:
        # The text of the lines is included, since the file may not exist where a task runs.
        own = {name: value for name, value in self.__dict__.items() if name != "subject"}
        return {**own, "_options": self._options._replace(stream=None), "_source": self.subject.source()}

    def _measured(self, within: object = None) -> CallMeasurement:
        measurement = RecordedCall if self._options.records_allocations else CallMeasurement
        return measurement(self.subject, self._options, within)

    def run(self, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if self._options.records_allocations:
            with RecordedCall(self.subject, self._options) as recorded:
                return recorded.call(functools.partial(self._func, *args, **kwargs))
        with self._measured() as measurement:
            if not self._options.full_report:
                return self._func(*args, **kwargs)
            with measurement.lines():
                return self._func(*args, **kwargs)

    def run_generator(self, args: tuple[object, ...], kwargs: dict[str, object]) -> Generator[object, object, object]:
        with self._measured() as measurement:
            return (yield from steps(self._func(*args, **kwargs), measurement.lines))

    async def run_coroutine(self, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        with self._measured(_current_task()) as measurement:
            return await steps(self._func(*args, **kwargs), measurement.lines)

    async def run_async_generator(
        self, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> AsyncGenerator[object, object]:
        with self._measured(_current_task()) as measurement:
            inner = self._func(*args, **kwargs)
            step = inner.asend(None)
            while True:
                try:
                    item = await steps(step, measurement.lines)
                except StopAsyncIteration:
                    return
                try:
                    value = yield item
                except GeneratorExit:
                    await steps(inner.aclose(), measurement.lines)
                    raise
                except BaseException as thrown:
                    step = inner.athrow(thrown)
                else:
                    step = inner.asend(value)


def _current_task() -> object:
    import asyncio  # here, since its import is slow and most programs do not need it

    try:
        return asyncio.current_task()
    except RuntimeError:  # run by another event loop than asyncio's
        return None
