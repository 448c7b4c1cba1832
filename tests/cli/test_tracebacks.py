from __future__ import annotations

import traceback

import pytest

from runmem.cli.tracebacks import alike, shorten
from runmem.errors import ArgumentError, RunmemError
from runmem.graph.directions import as_parameter
from runmem.graph.signature import TaskSignature
from runmem.units import parse_bytes


def caught(function) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def files(error: BaseException) -> list[str]:
    return [frame.filename for frame in traceback.extract_tb(error.__traceback__)]


def test_an_error_that_runmem_raises_on_purpose_points_at_the_program():
    error = caught(lambda: as_parameter("SIDEWAYS", "here"))
    assert any("directions.py" in file for file in files(error))
    shorten(error)
    assert set(files(error)) == {__file__}
    assert error.__traceback__ is not None


def test_a_mistake_inside_runmem_keeps_its_frames():
    error = caught(lambda: parse_bytes([]))
    assert isinstance(error, TypeError)
    shorten(error)
    assert any("units.py" in file for file in files(error))


def test_the_exception_of_a_task_is_shortened_too():
    error = caught(lambda: parse_bytes("no size"))
    error.root_task_id = 7
    shorten(error)
    assert set(files(error)) == {__file__}


def test_a_cause_inside_the_program_stays_and_one_inside_runmem_goes():
    def outer(inner):
        try:
            inner()
        except Exception as error:
            raise ArgumentError("told") from error

    ours = caught(lambda: outer(lambda: 1 / 0))
    shorten(ours)
    assert isinstance(ours.__cause__, ZeroDivisionError)
    error = caught(lambda: TaskSignature(len, {"x": 1}, None, None))
    error.__context__ = _raised_in_runmem_only()
    shorten(error)
    assert "During handling" not in "".join(traceback.format_exception(error))


def _raised_in_runmem_only() -> BaseException:
    error = caught(lambda: parse_bytes("no size"))
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return error.with_traceback(trace)


def test_a_circle_of_causes_ends():
    first, second = RunmemError("1"), ValueError("2")
    first.__cause__, second.__cause__ = second, first
    shorten(first)


def test_python_s_own_library_between_frames_of_runmem_goes_with_them():
    from runmem.units import parse_bytes as inner

    error = caught(lambda: sorted([1], key=lambda _: inner("x")))
    error.root_task_id = 1
    shorten(error)
    assert set(files(error)) == {__file__}


@pytest.mark.parametrize("error", [SystemExit(1), ValueError("mine")])
def test_what_the_program_raises_itself_is_left_as_it_is(error):
    def program():
        raise error

    raised = caught(program)
    before = files(raised)
    shorten(raised)
    assert files(raised) == before


def test_errors_are_alike_by_type_and_message():
    first = ValueError("one")
    errors = [first, KeyError("one"), ValueError("one"), ValueError("two"), ValueError("one")]
    assert [(type(error), str(error), more) for error, more in alike(errors)] == [
        (ValueError, "one", 2), (KeyError, "'one'", 0), (ValueError, "two", 0),
    ]  # fmt: skip
    assert alike(errors)[0][0] is first
    assert alike([]) == []
