"""The table is memory_profiler's, row by row and column by column, with true increments."""

import io
import sys
import threading

import memory_profiler
import pytest

from runmem.memory.lines import LineProfile, LineRow, LineTable
from runmem.memory.process import own_process
from runmem.memory.source import SourceBlock, source_block
from runmem.memory.tracers import MonitoringTracer, SettraceTracer
from runmem.units import MIB

TRACERS = [SettraceTracer()] + ([MonitoringTracer()] if sys.version_info >= (3, 12) else [])


@pytest.fixture(params=TRACERS, ids=lambda tracer: type(tracer).__name__)
def tracer(request):
    return request.param


def trace(tracer, function, *args, read=None, table=None):
    """Return the profile of a call; an exception of the function passes."""
    table = table or LineTable(function.__code__, read or own_process().resident_bytes)
    tracer.begin(table)
    try:
        function(*args)
    except ZeroDivisionError:
        pass
    finally:
        tracer.end(table)
    return table.profile(source_block(function.__code__))


def by_text(profile):
    return {row.source.strip(): row for row in profile.rows}


def varied(n):
    total = 0
    for i in range(n): total += i  # noqa: E701  # fmt: skip
    for i in range(n):
        if i % 2:
            continue
        total += i
    squares = [i * i
               for i in range(5)]  # fmt: skip
    ordered = sorted(range(4), key=lambda v: -v)

    def inner(z):
        y = z
        return y

    inner(1), inner(2)
    total += sum(q for q in squares)
    try:  # noqa: SIM105
        divide(1, 0)
    except ZeroDivisionError:
        pass
    while n > 0: n -= 1  # noqa: E701  # fmt: skip
    with io.StringIO() as stream:
        stream.write("x")
    return (total,
            ordered)  # fmt: skip


def divide(a, b):
    return a / b


def test_occurrences_and_layout_are_those_of_memory_profiler(tracer):
    theirs = io.StringIO()
    memory_profiler.profile(varied, stream=theirs)(3)
    ours = trace(tracer, varied, 3).render()

    def without_sizes(text):
        return [line[:6] + line[32:] for line in text.splitlines()]

    assert without_sizes(ours) == without_sizes(theirs.getvalue())


def test_a_table_is_rendered_exactly():
    rows = (
        LineRow(9, 50 * MIB, 50 * MIB, 1, "def f():"),
        LineRow(10, 61 * MIB, -200, 12, "    a = 1"),
        LineRow(11, None, None, None, "    # why"),
    )
    assert LineProfile("/tmp/f.py", rows).render(2) == (
        "Filename: /tmp/f.py\n"
        "\n"
        "Line #    Mem usage    Increment  Occurrences   Line Contents\n"
        "=============================================================\n"
        "     9    50.00 MiB    50.00 MiB           1   def f():\n"
        "    10    61.00 MiB     0.00 MiB          12       a = 1\n"
        "    11                                             # why\n"
        "\n"
        "\n"
    )


def falling(sizes, held):
    for size in sizes:
        held[0] += size
        held[0] -= size


def test_increments_in_a_loop_are_against_the_reading_before_and_not_the_largest_one(tracer):
    held = [1000]
    rows = by_text(trace(tracer, falling, [100, 10], held, read=lambda: held[0]))
    assert rows["held[0] += size"].increment_bytes == 110
    assert rows["held[0] -= size"].increment_bytes == -110
    assert rows["held[0] += size"].mem_bytes == 1100
    assert rows["held[0] += size"].occurrences == 2


def test_the_first_row_has_the_size_at_the_start(tracer):
    held = [1000]
    first = trace(tracer, falling, [], held, read=lambda: held[0]).rows[0]
    assert (first.increment_bytes, first.mem_bytes, first.occurrences) == (1000, 1000, 1)


def calls(held):
    def inner(size):
        held[0] += size

    inner(take(held, 7))
    list(map(lambda size: inner(size), [20, 30]))


def take(held, size):
    held[0] += size
    return size


def test_what_a_call_takes_counts_where_it_was_taken_and_all_increments_add_up(tracer):
    held = [1000]
    profile = trace(tracer, calls, held, read=lambda: held[0])
    rows = by_text(profile)
    assert rows["held[0] += size"].increment_bytes == 7 + 20 + 30
    assert rows["inner(take(held, 7))"].increment_bytes == 7
    assert sum(row.increment_bytes or 0 for row in profile.rows) == held[0]


def failing(held):
    def inner():
        held[0] += 5
        held[0] += 6 / 0

    try:
        inner()
    except ZeroDivisionError:
        held[0] += 50
    held[0] += 500
    held[0] += 5000 / 0


def test_exceptions_of_inner_and_outer_functions_leave_a_whole_table(tracer):
    held = [1000]
    rows = by_text(trace(tracer, failing, held, read=lambda: held[0]))
    assert rows["held[0] += 5"].increment_bytes == 5
    assert rows["held[0] += 50"].increment_bytes == 50
    assert rows["held[0] += 500"].increment_bytes == 500
    assert rows["held[0] += 5000 / 0"].occurrences == 1


def descend(n):
    if n:
        descend(n - 1)
    return n


def test_recursion_without_tables_of_its_own_is_one_table(tracer):
    rows = by_text(trace(tracer, descend, 3))
    assert rows["return n"].occurrences == 4


def test_a_table_begun_inside_another_takes_the_lines_of_a_code_that_both_have(tracer):
    outer, inner = (LineTable(descend.__code__, own_process().resident_bytes) for _ in range(2))
    tracer.begin(outer)
    inside = by_text(trace(tracer, descend, 1, table=inner))
    tracer.end(outer)
    assert inside["return n"].occurrences == 2
    assert by_text(outer.profile(source_block(descend.__code__)))["return n"].occurrences is None


def test_each_thread_fills_the_table_that_it_began(tracer):
    barrier = threading.Barrier(2)
    found = {}

    def work(turns):
        barrier.wait(30)
        found[turns] = by_text(trace(tracer, varied, turns))["total += i"].occurrences

    threads = [threading.Thread(target=work, args=(turns,)) for turns in (40, 60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {40: 20, 60: 30}


def test_a_trace_function_that_was_set_sees_every_line_and_is_set_again(tracer):
    seen = []

    def theirs(frame, event, arg):
        if frame.f_code is divide.__code__:
            seen.append(event)
        return theirs

    before = sys.gettrace()
    sys.settrace(theirs)
    try:
        profile = trace(tracer, divide, 4, 2)
        assert sys.gettrace() is theirs
    finally:
        sys.settrace(before)
    assert seen == ["call", "line", "return"]
    assert profile.rows[-1].occurrences == 1


def test_a_trace_function_that_takes_over_at_every_call_does_not_end_the_table():
    """As coverage's tracer does, which sets itself whenever it is called."""
    tracer = SettraceTracer()

    def greedy(frame, event, arg):
        if event == "call":
            sys.settrace(greedy)
        return greedy

    before = sys.gettrace()
    sys.settrace(greedy)
    try:
        rows = by_text(trace(tracer, descend, 3))
        assert sys.gettrace() is greedy
    finally:
        sys.settrace(before)
    assert rows["return n"].occurrences == 4


def test_a_debugger_started_inside_the_call_stays():
    tracer = SettraceTracer()

    def debugger(frame, event, arg):
        return None

    before = sys.gettrace()
    try:
        trace(tracer, lambda: sys.settrace(debugger))
        assert sys.gettrace() is debugger
    finally:
        sys.settrace(before)


def test_nothing_is_traced_after_the_end(tracer):
    table = LineTable(descend.__code__, own_process().resident_bytes)
    tracer.begin(table)
    tracer.end(table)
    descend(2)
    profile = table.profile(source_block(descend.__code__))
    assert [row.occurrences for row in profile.rows] == [1, None, None, None]


def test_failed_readings_do_not_affect_the_call_and_are_reported(tracer):
    def broken():
        raise OSError("closed")

    assert trace(tracer, descend, 1, read=broken).reason == "some readings are missing: closed"


def test_lines_whose_text_is_not_found_have_a_row_all_the_same(tracer):
    names = {}
    exec(compile("def made(a):\n    b = a\n    return b\n", "<made>", "exec"), names)
    profile = trace(tracer, names["made"], 1)
    assert [(row.line, row.occurrences, row.source) for row in profile.rows] == [(1, 1, ""), (2, 1, ""), (3, 1, "")]
    assert "     2 " in profile.render()


def test_the_source_of_a_function_ends_with_its_last_line():
    assert source_block(divide.__code__).texts == ("def divide(a, b):", "    return a / b")


def test_a_missing_source_file_has_empty_lines(tmp_path):
    path = tmp_path / "gone.py"
    names = {}
    exec(compile("\n\ndef made(a):\n    return a\n", str(path), "exec"), names)
    assert source_block(names["made"].__code__) == SourceBlock(str(path), 3, ("", ""))
