"""Two sources of line events with one contract: ``sys.monitoring`` from Python 3.12 on, ``sys.settrace`` before."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Protocol, TypeAlias

from runmem.memory.lines import LineTable

__all__ = ["LineTracer", "SettraceTracer", "MonitoringTracer", "line_tracer"]

TraceFunction: TypeAlias = Callable[..., Any]

monitoring: Any = getattr(sys, "monitoring", None)  # Any because Python 3.11 has none


class LineTracer(Protocol):
    """Report the lines that run in the calling thread to tables."""

    def begin(self, table: LineTable) -> None:
        """Report lines of the table's codes to it, until `end`. Tables begun later take precedence."""

    def end(self, table: LineTable) -> None:
        """Stop reporting to `table`."""


class _Thread(threading.local):
    """The active tables of this thread, and the previous trace function."""

    def __init__(self) -> None:
        self.tables: list[LineTable] = []
        self.before: TraceFunction | None = None

    def table_of(self, code: CodeType) -> LineTable | None:
        """Return the innermost table with `code`: in a recursion each call has its own."""
        key = id(code)  # hashing a code object is slow
        for table in reversed(self.tables):
            if key in table.codes:
                return table
        return None


class SettraceTracer:
    """Line events from ``sys.settrace``.

    A trace function that is already set (by a debugger or coverage) is still called for every event, and restored at
    the end. Limitations: every Python call in the thread becomes slower, even of code that is not traced.
    """

    def __init__(self) -> None:
        self._thread = _Thread()

    def begin(self, table: LineTable) -> None:
        thread = self._thread
        thread.tables.append(table)
        if len(thread.tables) == 1:
            thread.before = sys.gettrace()
            sys.settrace(self._trace)

    def end(self, table: LineTable) -> None:
        thread = self._thread
        if table in thread.tables:
            thread.tables.remove(table)
        if not thread.tables:
            before, thread.before = thread.before, None
            if sys.gettrace() == self._trace:  # otherwise a debugger was started meanwhile
                sys.settrace(before)

    def _trace(self, frame: FrameType, event: str, arg: object) -> TraceFunction | None:
        before = self._thread.before
        theirs = before(frame, event, arg) if before is not None else None
        if before is not None and sys.gettrace() != self._trace:
            sys.settrace(self._trace)  # the tracer of coverage sets itself whenever it is called
        table = self._thread.table_of(frame.f_code)
        if table is None:
            return theirs
        table.enter(id(frame), frame.f_lineno)
        return self._local(table, theirs)

    def _local(self, table: LineTable, theirs: TraceFunction | None) -> TraceFunction:
        key: int | None = None

        def trace(frame: FrameType, event: str, arg: object) -> TraceFunction:
            nonlocal key, theirs
            if theirs is not None:
                theirs = theirs(frame, event, arg)
            if key is None:
                key = id(frame)
            if event == "line":
                table.line(key, frame.f_lineno)
            elif event == "return":
                table.leave(key)
            return trace

        return trace


class MonitoringTracer:
    """Line events from ``sys.monitoring`` (Python 3.12 and later).

    Only the codes of active tables send events: all other code runs at full speed, and debuggers and coverage are not
    affected. Limitations: uses one of Python's six tool ids for the life of the process; if an inner function ends with
    an exception, this is noticed at the next line of an outer one.

    Raises RuntimeError if all tool ids are taken.
    """

    def __init__(self) -> None:
        self._thread = _Thread()
        self._lock = threading.Lock()
        self._users: dict[int, int] = {}  # id of a code -> number of active tables with it
        self._loops: dict[tuple[int, int], int] = {}  # id of a code and offset of a jump within a line -> line
        for number in (3, 4, monitoring.PROFILER_ID):  # 3 and 4 have no predefined purpose
            with contextlib.suppress(ValueError):
                monitoring.use_tool_id(number, "runmem")
                self._tool = number
                break
        else:
            raise RuntimeError("all tool ids of sys.monitoring are taken")
        events = monitoring.events
        self._events = 0
        for event, callback in (
            (events.LINE, self._on_line),
            (events.PY_START, self._on_start),
            (events.PY_RESUME, self._on_resume),
            (events.PY_RETURN, self._on_leave),
            (events.PY_YIELD, self._on_leave),
            (events.JUMP, self._on_jump),
        ):
            self._events |= event
            monitoring.register_callback(self._tool, event, callback)

    def begin(self, table: LineTable) -> None:
        self._thread.tables.append(table)
        with self._lock:
            for key, code in table.codes.items():
                users = self._users[key] = self._users.get(key, 0) + 1
                if users == 1:
                    monitoring.set_local_events(self._tool, code, self._events)

    def end(self, table: LineTable) -> None:
        if table not in self._thread.tables:
            return
        self._thread.tables.remove(table)
        with self._lock:
            for key, code in table.codes.items():
                self._users[key] -= 1
                if not self._users[key]:
                    del self._users[key]
                    monitoring.set_local_events(self._tool, code, 0)
                    self._loops = {loop: line for loop, line in self._loops.items() if loop[0] != key}

    def _on_line(self, code: CodeType, line: int) -> None:
        tables = self._thread.tables
        table = tables[-1] if tables else None
        if table is not None and id(code) not in table.codes:
            table = self._thread.table_of(code)
        if table is not None:
            table.line(id(sys._getframe(1)), line)

    def _on_jump(self, code: CodeType, offset: int, target: int) -> object:
        """Record a visit for each jump back of a loop within one line, which sends no line events."""
        line = self._loops.get((id(code), offset))
        if line is None:
            line = _line_at(code, offset)
            if target > offset or line is None or line != _line_at(code, target):
                return monitoring.DISABLE  # for this jump
            self._loops[id(code), offset] = line
        table = self._thread.table_of(code)
        if table is not None:
            table.line(id(sys._getframe(1)), line)
        return None

    def _on_start(self, code: CodeType, offset: int) -> None:
        table = self._thread.table_of(code)
        if table is not None:
            table.enter(id(sys._getframe(1)), code.co_firstlineno)

    def _on_resume(self, code: CodeType, offset: int) -> None:
        table = self._thread.table_of(code)
        if table is not None:
            frame = sys._getframe(1)
            table.enter(id(frame), frame.f_lineno)

    def _on_leave(self, code: CodeType, offset: int, value: object) -> None:
        table = self._thread.table_of(code)
        if table is not None:
            table.leave(id(sys._getframe(1)))


def _line_at(code: CodeType, offset: int) -> int | None:
    return next((line for start, end, line in code.co_lines() if start <= offset < end), None)


_tracer: LineTracer | None = None
_tracer_lock = threading.Lock()


def line_tracer() -> LineTracer:
    """Return the tracer of this process: ``sys.monitoring`` if it exists and has a free tool id."""
    global _tracer
    with _tracer_lock:
        if _tracer is None:
            try:
                _tracer = MonitoringTracer() if monitoring is not None else SettraceTracer()
            except RuntimeError:
                _tracer = SettraceTracer()
        return _tracer
