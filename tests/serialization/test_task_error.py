from __future__ import annotations

import pickle
import threading

import distributed  # it changes how exceptions are pickled
import pytest

from runmem.serialization.task_error import PackedError, RemoteError, root_task, set_root_task


class TwoArguments(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Rewrites(Exception):
    """Unpickled by a call with its message, it would say ``code code 5``."""

    def __init__(self, code: object = 0) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Holds(Exception):
    def __init__(self) -> None:
        super().__init__("it holds a lock")
        self.lock = threading.Lock()
        self.code = 4


class Refuses(Exception):
    """Its message is a value that cannot be pickled."""


assert distributed.__version__


def carried(error: BaseException) -> BaseException:
    return pickle.loads(pickle.dumps(PackedError.of(error))).load()


@pytest.mark.parametrize(
    "error",
    [
        ValueError("plain", 3), KeyError("key"), FileNotFoundError(2, "No such file", "/a"), TwoArguments(3, "t"),
        Rewrites(5), Holds(), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), ExceptionGroup("g", [ValueError(1)]),
        ValueError("x" * 50_000), StopIteration(3),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_an_exception_comes_back_as_itself(error: Exception) -> None:
    error.add_note("a note")
    set_root_task(error, 7)
    again = carried(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args or isinstance(error, ExceptionGroup)
    assert again.__notes__ == ["a note"]
    assert root_task(again) == 7
    assert getattr(again, "code", None) == getattr(error, "code", None)
    assert getattr(again, "errno", None) == getattr(error, "errno", None)


def test_a_class_defined_in_a_function_comes_back_as_itself() -> None:
    class Local(LookupError):
        pass

    with pytest.raises(Local, match="here"):
        raise carried(Local("here"))


def test_what_cannot_be_pickled_at_all_is_told_as_text() -> None:
    error = Refuses(threading.Lock())
    error.add_note("a note")
    set_root_task(error, 7)
    again = carried(error)
    assert type(again) is RemoteError
    assert str(again).startswith("Refuses: <unlocked _thread.lock object")
    assert again.__notes__ == ["a note"]
    assert root_task(again) == 7


def test_a_class_that_the_program_does_not_know_is_told_as_text() -> None:
    packed = PackedError(b"\x80\x04cno_such_module\nError\n)R.", "Error: why", ("a note",), 7)
    again = packed.load()
    assert type(again) is RemoteError
    assert str(again) == "Error: why"
    assert root_task(again) == 7


def test_an_exception_of_the_program_has_no_root() -> None:
    assert root_task(ValueError("its own")) is None


def caused(error: BaseException, cause: BaseException) -> BaseException:
    try:
        raise error from cause
    except BaseException as raised:
        return raised


@pytest.mark.parametrize(
    "error",
    [ValueError("plain"), TwoArguments(3, "t"), Rewrites(5), Holds(), Refuses(threading.Lock())],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_keeps_what_it_was_raised_from(error: Exception) -> None:
    again = carried(caused(error, caused(TwoArguments(1, "first"), Holds())))
    assert type(again.__cause__) is TwoArguments
    assert str(again.__cause__) == "1: first"
    assert again.__suppress_context__
    assert type(again.__cause__.__cause__) is Holds


def test_a_circle_of_causes_ends() -> None:
    first, second = TwoArguments(1, "first"), TwoArguments(2, "second")
    first.__cause__, second.__cause__ = second, first
    again = carried(first)
    assert str(again.__cause__) == "2: second"
