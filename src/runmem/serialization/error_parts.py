"""One exception as bytes, whatever its class does: without its traceback and without the exceptions it is linked to.

An exception is taken apart and rebuilt below its class: `args`, attributes, slots and the fields that Python's own
exception types have in C. No `__init__` runs again, no `__setattr__` or `__getattribute__` of the class is called, and
the reducers that Dask installs for exceptions (tblib) are not used. A class that defines how it is pickled is tried
first.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from types import BuiltinFunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, NamedTuple, TypeGuard

from runmem.serialization.definitions import current_definitions
from runmem.serialization.interrupts import is_interrupt
from runmem.serialization.references import ReferencePickler

__all__ = [
    "NOTES", "ROOT", "Members", "attributes_of", "field_of", "set_field", "members_of", "text_of", "class_name",
    "shortened", "pickled", "unpickled",
]  # fmt: skip

NOTES, ROOT = "__notes__", "root_task_id"
_APART = {NOTES, ROOT}  # they travel beside the pickle
_REDUCE = ("__reduce__", "__reduce_ex__")
_UNSAID = {"__dict__", "__weakref__"}


def field_of(error: BaseException, name: str) -> Any:
    """Return a field that every exception has, such as ``__cause__``, whatever its class says."""
    return vars(BaseException)[name].__get__(error)


def set_field(error: BaseException, name: str, value: object) -> None:
    """Set a field that every exception has, also of one whose class refuses that."""
    vars(BaseException)[name].__set__(error, value)


def attributes_of(error: BaseException) -> dict[str, Any]:
    """Return the dictionary of an exception's attributes itself; every exception has one, also below ``__slots__``."""
    found: dict[str, Any] = field_of(error, "__dict__")
    return found


def text_of(error: BaseException, limit: int = 65_536) -> str:
    """Return type and message of an exception, even if the message cannot be printed."""
    name = class_name(error)
    try:
        text = str.__str__(str(error))  # not of a class below `str`, which may do anything
    except BaseException as refusal:  # of any kind: the message is needed to report another error
        return f"{name}: <its message cannot be printed: {class_name(refusal)}>"
    return shortened(f"{name}: {text}", limit)


def class_name(value: object) -> str:
    """Return the name of the class of a value, whatever its metaclass says."""
    name: str = vars(type)["__name__"].__get__(type(value))
    return name


def shortened(text: str, limit: int) -> str:
    """Return a text of at most about `limit` characters: its beginning and its end."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


class Members(NamedTuple):
    """An exception group without the exceptions in it, each of which travels by itself."""

    cls: type[BaseException]
    message: str
    attributes: dict[str, object]

    def group(self, members: list[BaseException]) -> BaseException:
        """Return the group with `members` in it."""
        error = _empty(self.cls, self.message, members)
        _fill(error, (None, self.attributes))
        return error


class _Pickled(NamedTuple):
    data: bytes
    left_out: tuple[str, ...]


def pickled(error: BaseException, room: int) -> _Pickled | None:
    """Return a pickle of an exception of at most `room` bytes, and the attributes that it does without; None: none.

    It was unpickled once, here: it gives an exception of the same class and message. That of a group gives `Members`.
    """
    if _is_group(error):
        return _group_pickled(error, room)
    defines_pickling = _defines_pickling(type(error))
    data = _tried(error, room, own=True) if defines_pickling else None
    if data is None:
        data = _tried(error, room)
    left_out: tuple[str, ...] = ()
    if data is None:
        left_out = tuple(name for name, value in _state(error).items() if not _travels(value, room))
        data = _tried(error, room, left_out=left_out) if left_out else None
    if data is None and not defines_pickling:  # of a class written in C, say
        left_out, data = (), _tried(error, room, own=True)
    return None if data is None else _Pickled(data, left_out)


def unpickled(data: bytes) -> BaseException | Members | None:
    """Return the exception or group of a pickle by `pickled`; None if it cannot be loaded here."""
    try:
        made = pickle.loads(data)
    except BaseException as refusal:  # its class is known on the worker only, or refuses
        if is_interrupt(refusal):
            raise
        return None
    return made if issubclass(type(made), (BaseException, Members)) else None


def members_of(group: BaseException) -> list[BaseException]:
    """Return the exceptions in a group; an empty list for another exception."""
    return _of_group(group)[1] if _is_group(group) else []


def _group_pickled(error: BaseExceptionGroup[Any], room: int) -> _Pickled | None:
    attributes = _state(error)
    left_out = tuple(name for name, value in attributes.items() if not _travels(value, room))
    kept = {name: value for name, value in attributes.items() if name not in left_out}
    message, members = _of_group(error)
    try:
        data = _dumps(Members(type(error), message, kept), room)
        again = pickle.loads(data).group(members)
    except BaseException:  # what the user's class does when it is pickled is no reason to lose the error
        return None
    return _Pickled(data, left_out) if text_of(again) == text_of(error) else None


def _tried(error: BaseException, room: int, own: bool = False, left_out: tuple[str, ...] = ()) -> bytes | None:
    """Return a pickle in the way of the class (`own`) or by parts; None if it does not load as an equal exception."""
    try:
        data = _dumps(error, room, own, left_out)
        again = pickle.loads(data)
    except BaseException:  # as above
        return None
    if type(again) is not type(error):
        return None
    # A message may name an address, which is another one now; that of a whole exception is right all the same.
    whole = not own and not left_out and _is_printed(again) >= _is_printed(error)
    return data if whole or text_of(again) == text_of(error) else None


def _is_printed(error: BaseException) -> bool:
    try:
        str(error)
    except BaseException:
        return False
    return True


def _travels(value: object, room: int) -> bool:
    try:
        pickle.loads(_dumps(value, room))
    except BaseException:
        return False
    return True


class _Bounded(io.BytesIO):
    """A file that refuses more than so many bytes."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > self._room:
            raise ValueError(f"the pickle is larger than {self._room} bytes")
        return super().write(data)


class _ErrorPickler(ReferencePickler):
    """Pickles exceptions, also those inside others, by their parts or as their classes say."""

    def __init__(self, file: _Bounded, error: BaseException | None, own: bool, left_out: tuple[str, ...]) -> None:
        super().__init__(file, current_definitions())
        self._error = error
        self._own = own
        self._left_out = left_out

    def reducer_override(self, obj: Any) -> Any:
        """Return the reduced form of `obj`."""
        if not issubclass(type(obj), BaseException):
            return super().reducer_override(obj)
        if self._own if obj is self._error else _defines_pickling(type(obj)):
            return obj.__reduce_ex__(4)
        state = _state(obj)
        if obj is self._error:
            state = {name: value for name, value in state.items() if name not in self._left_out}
        if _is_group(obj):
            return _empty, (type(obj), *_of_group(obj)), (None, state), None, None, _fill
        return _empty, (type(obj),), (field_of(obj, "args"), state), None, None, _fill


def _dumps(value: Any, room: int, own: bool = False, left_out: tuple[str, ...] = ()) -> bytes:
    with _Bounded(room) as file:
        _ErrorPickler(file, value if issubclass(type(value), BaseException) else None, own, left_out).dump(value)
        return file.getvalue()


def _empty(cls: type[BaseException], *args: Any) -> BaseException:
    """Return an exception, made by Python's own type below its class without a call of the class."""
    made = next(base for base in cls.__mro__ if isinstance(vars(base).get("__new__"), BuiltinFunctionType))
    error: BaseException = made.__new__(cls, *args)
    return error


def _fill(error: BaseException, state: tuple[tuple[object, ...] | None, dict[str, object]]) -> None:
    args, values = state
    if args is not None:
        set_field(error, "args", args)
    fields = dict(_fields(type(error)))
    for name, value in values.items():
        if name in fields:
            fields[name].__set__(error, value)
        else:
            attributes_of(error)[name] = value


def _state(error: BaseException) -> dict[str, object]:
    """Return the attributes, slots and fields in C of an exception, except those that every one has."""
    state = {name: value for name, value in attributes_of(error).items() if name not in _APART}
    for name, field in _fields(type(error)):
        try:
            value = field.__get__(error)
        except AttributeError:  # not set
            continue
        if value is not None:
            state[name] = value
    return state


def _fields(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield name and descriptor of each slot, and of each field in C that some exceptions have."""
    for base in reversed(cls.__mro__):
        if base in (object, BaseException, BaseExceptionGroup):
            continue
        for name, value in vars(base).items():
            held = isinstance(value, (MemberDescriptorType, GetSetDescriptorType)) and name not in _UNSAID
            if held and (base is not AttributeError or name == "name"):  # `obj` may be anything
                yield name, value


def _is_group(error: BaseException) -> TypeGuard[BaseExceptionGroup[Any]]:
    return issubclass(type(error), BaseExceptionGroup)  # `isinstance` asks the exception, too


def _of_group(group: BaseExceptionGroup[Any]) -> tuple[str, list[BaseException]]:
    """Return the message of an exception group and the exceptions in it."""
    message, members = (vars(BaseExceptionGroup)[name].__get__(group) for name in ("message", "exceptions"))
    return message, list(members)


def _defines_pickling(cls: type) -> bool:
    """Return True if a class, not one of Python's own, defines how it is pickled."""
    return any(name in vars(base) for base in cls.__mro__[:-1] for name in _REDUCE if base.__module__ != "builtins")
