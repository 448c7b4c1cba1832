from __future__ import annotations

import pickle
import threading
from dataclasses import dataclass
from typing import Any

import distributed  # it changes how exceptions are pickled
import pytest

from runmem.serialization.task_error import (
    PackedError,
    RemoteError,
    add_note,
    root_task,
    set_root_task,
    traceback_text,
    unprinted_notes,
)
from runmem.units import MIB


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
    assert again.__notes__[0] == "a note"
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


@dataclass(frozen=True)
class Frozen(Exception):
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class FrozenSlots(Exception):
    x: int
    y: int = 2


class Slots(Exception):
    __slots__ = ("x", "unset")

    def __init__(self, x: int) -> None:
        self.x = x


class SetsNothing(Exception):
    def __init__(self, x: int) -> None:
        super().__init__(x)
        self.__dict__["x"] = x

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError(f"{name} cannot be set")


class AnswersForNotes(Exception):
    @property
    def __notes__(self) -> str:
        raise KeyError("no notes here")


class HidesItsDictionary(Exception):
    @property
    def __dict__(self) -> Any:
        raise RuntimeError("no dictionary here")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise LookupError("no text")


class PrintsItself(Exception):
    def __str__(self) -> str:
        return f"again {self}"

    __repr__ = __str__


class NotesOfAnotherKind(Exception):
    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.__notes__ = ("one", 2)


class OwnOpen(OSError):
    """Takes other arguments than `OSError`, which keeps what it is given in C."""

    def __init__(self, path: str) -> None:
        super().__init__(2, "cannot be opened", path)
        self.path = path


class OwnReduce(Exception):
    def __init__(self, text: str, lock: Any = None) -> None:
        super().__init__(text)
        self.lock = lock

    def __reduce__(self) -> Any:
        return OwnReduce, (self.args[0], "made again")


class OwnDecode(UnicodeDecodeError):
    __slots__ = ("where",)

    def __init__(self, where: str) -> None:
        super().__init__("utf-8", b"ab", 0, 1, "bad")
        self.where = where


class OwnGroup(ExceptionGroup):
    def __new__(cls, message: str, errors: Any, code: int) -> OwnGroup:
        made = super().__new__(cls, message, errors)
        made.code = code
        return made


class OwnInterrupt(BaseException):
    pass


ODD = [
    Frozen(1, 2), FrozenSlots(1), Slots(3), SetsNothing(4), AnswersForNotes("why"), HidesItsDictionary("why"),
    Unprintable("why"), PrintsItself("why"), NotesOfAnotherKind("why"), OwnOpen("/a/b"), OwnDecode("there"),
    OwnGroup("both", [ValueError(1), Frozen(1, 2)], 5), OwnInterrupt("stop"), ImportError("no", name="n", path="p"),
]  # fmt: skip


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
def test_whatever_a_class_refuses_its_exception_comes_back_as_itself(error: Any) -> None:
    add_note(error, "a note")
    set_root_task(error, 7)
    again: Any = carried(error)
    assert type(again) is type(error)
    assert root_task(again) == 7
    shown = unprinted_notes(again) or again.__notes__
    assert shown[-1] == "a note"
    assert again.args == error.args or isinstance(error, OwnGroup)
    for name in ("x", "y", "path", "where", "code", "errno", "filename", "encoding", "name", "message"):
        assert getattr(again, name, None) == getattr(error, name, None)
    try:
        expected = str(error)
    except Exception as refusal:
        with pytest.raises(type(refusal)):
            str(again)
    else:
        assert str(again) == expected


def test_a_note_reaches_who_reads_it_where_the_class_answers_for_notes() -> None:
    error = AnswersForNotes("why")
    add_note(error, "first")
    add_note(error, "second")
    assert unprinted_notes(carried(error)) == ["first", "second"]
    plain = ValueError("why")
    add_note(plain, "first")
    assert plain.__notes__ == ["first"]
    assert unprinted_notes(plain) == []


def test_no_class_is_called_again() -> None:
    calls = []

    class Counts(Exception):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)
            calls.append(args)

    again = carried(Counts(1, 2))
    assert again.args == (1, 2)
    assert calls == [(1, 2)]


def test_a_class_that_says_how_it_is_pickled_is_heard() -> None:
    again: Any = carried(OwnReduce("why", threading.Lock()))
    assert type(again) is OwnReduce
    assert again.lock == "made again"


@pytest.mark.parametrize(
    "raised", [SystemExit(3), KeyboardInterrupt(), RecursionError(), MemoryError(), OwnInterrupt()]
)
def test_a_class_whose_pickling_raises_is_taken_by_its_parts(raised: BaseException) -> None:
    class Exits(Exception):
        def __reduce__(self) -> Any:
            raise raised

    again = carried(Exits("why", 4))
    assert type(again) is Exits
    assert again.args == ("why", 4)


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), RecursionError()])
def test_a_value_whose_pickling_raises_stays_behind_and_that_is_said(raised: BaseException) -> None:
    class Value:
        def __reduce__(self) -> Any:
            raise raised

    error: Any = ValueError("why")
    error.value, error.code = Value(), 4
    again: Any = carried(error)
    assert type(again) is ValueError
    assert again.code == 4
    assert not hasattr(again, "value")
    assert "left on the worker" in again.__notes__[0]
    assert again.__notes__[0].endswith(": value")


def test_a_value_that_cannot_be_made_again_stays_behind() -> None:
    class Value:
        def __init__(self) -> None:
            self.x = 1

        def __setstate__(self, state: Any) -> None:
            raise RuntimeError("cannot be restored")

    error: Any = ValueError("why")
    error.value, error.code = Value(), 4
    again: Any = carried(error)
    assert (type(again), again.code, hasattr(again, "value")) == (ValueError, 4, False)


def test_a_value_without_bounds_stays_behind() -> None:
    error: Any = ValueError("why")
    error.value, error.code = bytes(65 * MIB), 4
    again: Any = carried(error)
    assert (type(again), again.code, hasattr(again, "value")) == (ValueError, 4, False)
    long = carried(ValueError("x" * 65 * MIB))
    assert type(long) is RemoteError
    assert 60_000 < len(str(long)) < 70_000


def test_a_message_with_an_address_is_no_reason_to_lose_the_class() -> None:
    class Part:
        pass

    again = carried(LookupError(Part()))
    assert type(again) is LookupError
    assert type(again.args[0]) is Part


def test_an_exception_that_holds_itself_comes_back() -> None:
    error: Any = ValueError("why")
    error.me = error
    again: Any = carried(error)
    assert again.me is again


def test_an_exception_inside_another_is_taken_by_its_parts_too() -> None:
    error = ValueError("why", TwoArguments(3, "t"), Frozen(1, 2), ExceptionGroup("g", [Slots(5)]))
    again = carried(error)
    assert [type(arg) for arg in again.args] == [str, TwoArguments, Frozen, ExceptionGroup]
    assert again.args[1].code == 3
    assert again.args[2] == Frozen(1, 2)
    assert again.args[3].exceptions[0].x == 5


def test_hundreds_of_causes_come_along() -> None:
    error: BaseException = TwoArguments(0, "first")
    for number in range(1, 600):
        error = caused(Frozen(number, 0) if number % 2 else TwoArguments(number, "t"), error)
    again: Any = carried(error)
    codes = []
    while again is not None:
        codes.append(again.x if isinstance(again, Frozen) else again.code)
        again = again.__cause__
    assert codes == list(range(599, -1, -1))


def test_more_exceptions_than_10_000_are_left() -> None:
    error: BaseException = ValueError(0)
    for number in range(1, 10_020):
        error = caused(ValueError(number), error)
    again: Any = carried(error)
    numbers = []
    while again is not None:
        numbers.append(again.args[0])
        again = again.__cause__
    assert numbers == list(range(10_019, 19, -1))
    group: Any = carried(ExceptionGroup("g", [ValueError(number) for number in range(10_004)]))
    assert [member.args[0] for member in group.exceptions] == list(range(9999))
    assert group.__notes__ == ["5 of its exceptions were left on the worker"]


def test_what_was_handled_when_an_exception_was_raised_comes_along() -> None:
    def while_handling(suppressed: bool) -> None:
        try:
            raise Frozen(1, 2)
        except Frozen:
            if suppressed:
                raise ValueError("instead") from None
            raise ValueError("while handling")  # noqa: B904 - this is what is tested

    for suppressed in (False, True):
        with pytest.raises(ValueError, match="instead|while handling") as raised:
            while_handling(suppressed)
        again = carried(raised.value)
        assert again.__context__ == Frozen(1, 2)
        assert again.__cause__ is None
        assert again.__suppress_context__ is suppressed


def test_groups_come_with_all_that_is_in_them() -> None:
    class Local(Exception):
        pass

    inner = caused(OwnGroup("inner", [Local("in"), Refuses(threading.Lock())], 3), TwoArguments(1, "first"))
    noted = Frozen(1, 2)
    add_note(noted, "of the member")
    again: Any = carried(BaseExceptionGroup("outer", [inner, noted, OwnInterrupt("stop")]))
    assert str(again) == "outer (3 sub-exceptions)"
    group, frozen, interrupt = again.exceptions
    assert (type(group), group.code, str(group.__cause__)) == (OwnGroup, 3, "1: first")
    assert type(group.exceptions[0]) is Local
    assert type(group.exceptions[1]) is RemoteError
    assert (frozen, frozen.__notes__) == (noted, ["of the member"])
    assert type(interrupt) is OwnInterrupt
    assert again.split(Local)[0].exceptions[0].exceptions[0].args == ("in",)


def test_a_deep_nest_of_groups_comes_back() -> None:
    error: Any = ValueError("deepest")
    for depth in range(300):
        error = ExceptionGroup(str(depth), [error])
    again: Any = carried(error)
    for depth in range(299, -1, -1):
        assert again.message == str(depth)
        (again,) = again.exceptions
    assert str(again) == "deepest"


def test_what_python_would_print_is_told_of_every_exception() -> None:
    for error in ODD:
        try:
            raise error
        except BaseException as raised:
            text = traceback_text(raised, raised.__traceback__)
        assert type(error).__name__ in text
        assert "raise error" in text


def test_a_class_that_answers_for_all_that_is_asked_comes_back() -> None:
    class Hostile(Exception):
        def __getattribute__(self, name: str) -> Any:
            raise MemoryError(name)

        def __reduce_ex__(self, protocol: Any) -> Any:
            raise SystemExit(3)

    error = Hostile("why")
    add_note(error, "a note")
    set_root_task(error, 3)
    assert "Hostile" in traceback_text(error, None)
    again = carried(error)
    assert type(again) is Hostile
    assert root_task(again) == 3
    assert unprinted_notes(again) == ["a note"]


def test_an_exception_that_cannot_be_taken_apart_keeps_its_notes_and_its_task() -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> object:
            raise SystemExit(7)

    error = Meta("Closed", (Exception,), {})(1)
    add_note(error, "raised in task f")
    set_root_task(error, 3)
    made = PackedError.of(error).load()
    assert (type(made), str(made), made.__notes__) == (RemoteError, "Closed: 1", ["raised in task f"])
    assert root_task(made) == 3
