from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable

import pytest

from runmem.cli.program import exit_code_of
from runmem.cli.tracebacks import group_equal, print_exception, print_uncaught, shorten
from runmem.errors import ArgumentError, RunmemError
from runmem.graph.call import Execution, Version
from runmem.graph.directions import as_parameter
from runmem.graph.future import Future
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


@pytest.mark.parametrize("use", [lambda y: y > 1, lambda y: 1 + y, len, lambda y: y.total, lambda y: f"{y:.2f}"])
def test_a_future_used_as_a_value_points_at_the_program(use):
    future = Future(Version(Execution(1, "f", 1), 0))
    error = caught(lambda: use(future))
    assert isinstance(error, TypeError)
    assert any("future.py" in file for file in files(error))
    shorten(error)
    assert set(files(error)) == {__file__}


def test_arguments_that_do_not_fit_point_at_the_program():
    error = caught(lambda: TaskSignature(lambda x: x, {}, None, None).check((), {}))
    assert any("signature.py" in file for file in files(error))
    shorten(error)
    assert set(files(error)) == {__file__}


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
    def fail(error):
        raise error

    first, second = caught(lambda: fail(RunmemError("1"))), caught(lambda: fail(ValueError("2")))
    first.__cause__, second.__cause__ = second, first
    shorten(first)
    assert first.__cause__ is second
    assert second.__cause__ is None  # `first` has been printed


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
    assert [(type(error), str(error), more) for error, more in group_equal(errors)] == [
        (ValueError, "one", 2), (KeyError, "'one'", 0), (ValueError, "two", 0),
    ]  # fmt: skip
    assert group_equal(errors)[0][0] is first
    assert group_equal([]) == []


# --- exceptions whose own code raises, recurses or exits --------------------------------------------------------------

ENDS: dict[str, Callable[..., object]] = {
    "raises": lambda *_: int("no number"),
    "exits": lambda *_: sys.exit(7),
    "recurses": lambda value, *_: str(value) + repr(value) + str(value.__class__),
}
ASKED = {
    "text": lambda act: {"__str__": act},
    "representation": lambda act: {"__repr__": act, "__str__": act},
    "attributes": lambda act: {"__getattribute__": act},
    "class": lambda act: {"__class__": property(act)},
    "cause": lambda act: {"__cause__": property(act), "__context__": property(act)},
    "traceback": lambda act: {"__traceback__": property(act)},
    "notes": lambda act: {"__notes__": property(act)},
    "truth": lambda act: {"__bool__": act, "__eq__": act, "__hash__": act},
}


def hostile(asked: str, ends: str, base: type = ValueError) -> type:
    return type("Hostile", (base,), ASKED[asked](ENDS[ends]))


def raised(error: BaseException, before: BaseException | None = None) -> BaseException:
    def program():
        raise error from before

    return caught(program)


def linked(count: int) -> BaseException:
    error: BaseException = ValueError("first")
    for number in range(count):
        later = ValueError(number)
        later.__cause__, error = error, later
    return raised(error, error.__cause__)


def circle() -> BaseException:
    first, second = ValueError("1"), KeyError("2")
    first.__cause__, second.__context__ = second, first
    return raised(first, second)


HOSTILE = {
    **{f"{asked} {ends}": lambda a=asked, e=ends: raised(hostile(a, e)("m")) for asked in ASKED for ends in ENDS},
    "cause": lambda: raised(ValueError("m"), hostile("class", "exits")("inner")),
    "group": lambda: raised(ExceptionGroup("m", [KeyError(1), hostile("text", "exits")("inner")])),
    "kind of group": lambda: raised(hostile("truth", "exits", ExceptionGroup)("m", [KeyError(1)])),
    "of runmem": lambda: raised(hostile("truth", "exits", RunmemError)("m"), raised(hostile("class", "raises")("i"))),
    "class is an exit": lambda: raised(type("Lies", (Exception,), {"__class__": SystemExit, "code": 5})("m")),
    "class is an interrupt": lambda: raised(type("Lies", (Exception,), {"__class__": KeyboardInterrupt})("m")),
    "900 causes": lambda: linked(900),
    "circle": circle,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_ends_a_program_is_printed_as_by_python_whatever_its_class_does(name, monkeypatch, capfd):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    error = HOSTILE[name]()
    sys.__excepthook__(type(error), error, vars(BaseException)["__traceback__"].__get__(error))
    by_python = capfd.readouterr().err
    print_uncaught(error, full=False)
    assert exit_code_of(error) == 1
    assert _plain(capfd.readouterr().err) == _plain(by_python)


def _plain(text: str) -> str:
    """Remove addresses and reference counts."""
    return re.sub(r"0x[0-9a-f]+|refcount : \d+", "", text)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_task_raised_is_printed_whatever_its_class_does(name, capfd):
    error = HOSTILE[name]()
    vars(BaseException)["__dict__"].__get__(error).update(root_task_id=7, __notes__=["raised in task f"])
    print_exception(error, full=False)
    said = capfd.readouterr().err
    assert type(error).__name__ in said
    assert said.count("raised in task f") == 1
    assert len(group_equal([error, error])) == 1


@pytest.mark.parametrize(
    ("hook", "said"),
    [(None, "TypeError: 'NoneType'"), (lambda *_: {}[1], "KeyError: 1"), (lambda: None, "TypeError: ")],
)
def test_a_hook_of_the_program_that_fails_is_told_as_by_python(hook, said, monkeypatch, capfd):
    monkeypatch.setattr(sys, "excepthook", hook)
    print_uncaught(raised(ValueError("mine")), full=False)
    text = capfd.readouterr().err
    assert text.startswith("Error in sys.excepthook:\n")
    assert text.index(said) < text.index("Original exception was:\nTraceback") < text.index("ValueError: mine")
    assert "During handling" not in text


def test_a_hook_of_the_program_may_exit_or_be_missing(monkeypatch, capfd):
    monkeypatch.setattr(sys, "excepthook", lambda *_: sys.exit(11))
    with pytest.raises(SystemExit, match="11"):
        print_uncaught(raised(ValueError("mine")), full=False)
    monkeypatch.delattr(sys, "excepthook")
    print_uncaught(raised(ValueError("mine")), full=False)
    text = capfd.readouterr().err
    assert text.startswith("sys.excepthook is missing\nTraceback")
    assert text.endswith("ValueError: mine\n")
