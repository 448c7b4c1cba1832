"""Packs the exception of a task for the program.

It reaches the program as itself, so that `except MyError` works, also when its class was defined in the program, takes
other arguments than `Exception` does, refuses attributes, or holds something that cannot be pickled. What it was raised
from, what was handled when it was raised, and what is in a group comes with it. Dask alone would cut a long message and
drop the notes.
"""

from __future__ import annotations

import traceback
from collections import deque
from types import TracebackType
from typing import NamedTuple, cast

from runmem.errors import RunmemError
from runmem.serialization.error_parts import (
    NOTES,
    ROOT,
    Members,
    attributes_of,
    field_of,
    members_of,
    pickled,
    set_field,
    shortened,
    text_of,
    unpickled,
)
from runmem.shadowed import drop_import_frames

__all__ = [
    "RemoteError", "PackedError", "root_task", "set_root_task", "add_note", "notes_of", "set_notes", "unprinted_notes",
    "traceback_text",
]  # fmt: skip

_MOST_ERRORS = 10_000
_ROOM_BYTES = 64 * 1024**2
_LONGEST_NOTE = 262_144  # characters


class RemoteError(RunmemError):
    """An exception of a task that cannot be pickled in any way: its type and message as text."""


class PackedError(NamedTuple):
    """A pickled exception, and a text in case it cannot be unpickled.

    Attributes
    ----------
    data : bytes or None
        See `error_parts.pickled`; None: it has no pickle.
    text : str
        Type and message.
    notes : tuple of str
    root : int or None
        See `root_task`.
    cause, context : int or None
        The exceptions that it was raised from, and that was handled then: positions in `related`.
    suppresses_context : bool
        Whether the context is not printed.
    members : tuple of int
        The exceptions in it, if it is a group.
    related : tuple of PackedError
        All exceptions that it is linked to, directly or through others; empty in each of them.
    has_changed_data : bool
        Whether the task may have changed its data in place, so that it cannot run again on the same.
    """

    data: bytes | None
    text: str
    notes: tuple[str, ...]
    root: int | None
    cause: int | None = None
    context: int | None = None
    suppresses_context: bool = False
    members: tuple[int, ...] = ()
    related: tuple[PackedError, ...] = ()
    has_changed_data: bool = False

    @classmethod
    def of(cls, error: BaseException) -> PackedError:
        """Pack an exception; its traceback, which a note has as text, is dropped.

        Does not raise: of an exception that cannot be taken apart the type, the message and the notes travel, as text.

        Of what it is linked to, 10,000 exceptions at most come along, the nearest first, and of all of them 64 MiB of
        pickles; the others are reported as text.
        """
        try:
            return cls._whole(error)
        except BaseException:  # what the code of its class does is no reason to lose it
            return cls(None, text_of(error), tuple(notes_of(error)), root_task(error))

    @classmethod
    def _whole(cls, error: BaseException) -> PackedError:
        set_field(error, "__traceback__", None)
        errors = _linked(error)
        places = {id(linked): place for place, linked in enumerate(errors)}
        room = _ROOM_BYTES
        packed = []
        for linked in errors:
            one = cls._one(linked, room, places)
            room -= len(one.data or b"")
            packed.append(one)
        return packed[0]._replace(related=tuple(packed[1:]))

    @classmethod
    def _one(cls, error: BaseException, room: int, places: dict[int, int]) -> PackedError:
        """Pack an exception alone; `places`: those of the exceptions that come along, by identity."""
        found = pickled(error, room)
        notes = notes_of(error)
        if found is not None and found.left_out:
            names = ", ".join(found.left_out)
            notes.append(f"left on the worker, because they cannot be pickled or are too large: {names}")
        members = [places[id(member)] for member in members_of(error) if id(member) in places]
        if len(members) < len(members_of(error)):
            notes.append(f"{len(members_of(error)) - len(members)} of its exceptions were left on the worker")
        return cls(
            None if found is None else found.data,
            text_of(error),
            tuple(notes),
            root_task(error),
            places.get(id(field_of(error, "__cause__"))),
            places.get(id(field_of(error, "__context__"))),
            field_of(error, "__suppress_context__"),
            tuple(members),
        )

    def load(self) -> BaseException:
        """Return the exception, or a `RemoteError` with its text."""
        packed = (self, *self.related)
        made: dict[int, BaseException] = {}
        groups: list[tuple[int, Members]] = []
        for place, one in enumerate(packed):
            found = None if one.data is None else unpickled(one.data)
            if issubclass(type(found), BaseException):
                made[place] = cast(BaseException, found)
            elif type(found) is Members:
                groups.append((place, found))
            else:
                made[place] = RemoteError(one.text)
        while groups:  # mostly those within come after those that they are in
            waiting = []
            for place, group in reversed(groups):
                members = packed[place].members
                if all(member in made for member in members):
                    made[place] = _group(group, [made[member] for member in members], packed[place].text)
                else:
                    waiting.append((place, group))
            groups = waiting[::-1]
        for place, one in enumerate(packed):
            one._complete(made[place], made)
        return made[0]

    def _complete(self, error: BaseException, made: dict[int, BaseException]) -> None:
        if self.notes:
            attributes_of(error)[NOTES] = list(self.notes)
        set_root_task(error, self.root)
        if self.cause is not None:
            set_field(error, "__cause__", made[self.cause])
        if self.context is not None:
            set_field(error, "__context__", made[self.context])
        set_field(error, "__suppress_context__", self.suppresses_context)


def _group(group: Members, members: list[BaseException], text: str) -> BaseException:
    try:
        return group.group(members)
    except Exception:  # a member that came as another type does not fit, or all were left out
        return RemoteError(text)


def _linked(error: BaseException) -> list[BaseException]:
    """Return an exception and all that it is linked to, the nearest first."""
    found = {id(error): error}
    waiting = deque([error])
    while waiting:
        one = waiting.popleft()
        for linked in (field_of(one, "__cause__"), field_of(one, "__context__"), *members_of(one)):
            if linked is not None and id(linked) not in found and len(found) < _MOST_ERRORS:
                found[id(linked)] = linked
                waiting.append(linked)
    return list(found.values())


def root_task(error: BaseException) -> int | None:
    """Return the number of the call that raised `error` first; calls that depend on it fail with the same error."""
    number: int | None = attributes_of(error).get(ROOT)
    return number


def set_root_task(error: BaseException, task_id: int | None) -> None:
    """Note the number of the call that raised `error`, also where its class takes no attributes."""
    if task_id is not None:
        attributes_of(error)[ROOT] = task_id


def add_note(error: BaseException, text: str) -> None:
    """Add a note to an exception, also where its class takes no attributes."""
    set_notes(error, [*notes_of(error), shortened(text, _LONGEST_NOTE)])


def set_notes(error: BaseException, notes: list[str]) -> None:
    """Set the notes of an exception, also where its class takes no attributes."""
    attributes_of(error)[NOTES] = notes


def unprinted_notes(error: BaseException) -> list[str]:
    """Return the notes that Python does not print, because the class of the exception redefines `__notes__`."""
    try:
        shown = type(error.__notes__)
    except BaseException:  # whatever the class does
        shown = None
    return [] if shown is not None and issubclass(shown, list) else notes_of(error)


def notes_of(error: BaseException) -> list[str]:
    """Return the notes of an exception, whatever its class does."""
    found = attributes_of(error).get(NOTES, ())
    if issubclass(type(found), (list, tuple)):  # `isinstance` asks the value, too
        notes = (list if issubclass(type(found), list) else tuple).__getitem__(found, slice(None))
    else:
        notes = (found,)
    return [shortened(str.__str__(note), _LONGEST_NOTE) for note in notes if issubclass(type(note), str)]


def traceback_text(error: BaseException, trace: TracebackType | None) -> str:
    """Return the text that Python prints for an exception with this traceback; of a very long one, the ends."""
    trace = drop_import_frames(trace)
    try:
        text = "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:  # its class answers wrongly for what is printed
        notes = [] if unprinted_notes(error) else notes_of(error)
        text = "\n".join(["".join(traceback.format_tb(trace)) + text_of(error), *notes])
    return shortened(text.rstrip(), _LONGEST_NOTE)
