"""Snapshots of the program at a call: the functions, classes and values that its task refers to.

A snapshot has two parts. Its *outline* is the functions and classes that travel by value, with everything in them that
is code. It is packed once, and again only when a definition was replaced. The *values* are those of globals, variables
of enclosing functions, class attributes, defaults and attributes of functions: they are read anew at each call. Those
that nothing can change in place are packed when a name was bound anew, the others at each call, like arguments.
"""

from __future__ import annotations

import enum
import io
import re
from collections import OrderedDict
from collections.abc import Iterable
from contextvars import ContextVar
from pathlib import PurePath

import numpy as np

from runmem.errors import ArgumentError
from runmem.graph.isolation import Isolation
from runmem.graph.task import TaskFunction
from runmem.serialization.definitions import CachedFunction, ProgramDefinitions
from runmem.serialization.error_parts import text_of
from runmem.serialization.interrupts import is_interrupt
from runmem.serialization.outline_pickler import OutlinePickler
from runmem.serialization.packed import LARGE_BYTES
from runmem.serialization.references import ATOMS, Empty, ReferencePickler
from runmem.serialization.standard_types import remedy
from runmem.serialization.watched_values import WatchedValues, is_code

__all__ = ["Snapshot", "Snapshots"]

_UNCHANGING = (Isolation, enum.Enum, PurePath, re.Pattern, range, slice, np.generic, np.dtype, type(Ellipsis))
_IN_RESULTS = (type, ContextVar, CachedFunction)
_KNOWN_SNAPSHOTS = 512
_MOST_GIVEN = 64  # definitions beside those of the task that a new snapshot takes over from the last one


def _is_constant(value: object) -> bool:
    """Return True if nothing can change a value in place."""
    kind = type(value)
    if isinstance(value, (str, bytes)) and kind in ATOMS:
        return len(value) <= LARGE_BYTES
    if kind in ATOMS:
        return True
    if isinstance(value, (tuple, frozenset)) and kind in (tuple, frozenset):
        return all(_is_constant(item) or is_code(item) for item in value)
    return isinstance(value, _UNCHANGING) or value is Empty


class Snapshot:
    """A snapshot of everything that a task, and the values given to its calls, refer to.

    Attributes
    ----------
    outline : bytes
    given : frozenset of int
        Definitions that were asked for, because the values given to a call may refer to them.
    travelling : frozenset of int
        Definitions that results may refer to: those given, classes and others that only their number identifies, and
        functions that are used other than by calling them. A call that gets a result needs these as they are then.
    constants : bytes
        Pickle of the values that nothing can change in place, by place.
    changing : dict
        The other values, by place, as they are now.
    """

    def __init__(self, given: Iterable[int], definitions: ProgramDefinitions, task: int | None = None) -> None:
        self.given = frozenset(given)
        self._definitions = definitions
        self._watched = WatchedValues()
        pickler = OutlinePickler(self._watched, definitions)
        self.outline = pickler.packed(self.given if task is None else self.given | {task})
        self.objects = pickler.reached  # kept alive: their numbers are those of these objects
        by_number = {number for number, datum in self.objects.items() if isinstance(datum, _IN_RESULTS)}
        self.travelling = self.given | by_number | pickler.used_as_values
        self.constants = b""
        self.changing: dict[int, object] = {}
        self.constant_numbers: frozenset[int] = frozenset()
        self._sort_values()

    def _sort_values(self) -> None:
        constants: dict[int, object] = {}
        self.changing = {}
        for place, value in enumerate(self._watched.values):
            (constants if _is_constant(value) else self.changing)[place] = value
        file = io.BytesIO()
        pickler = ReferencePickler(file, self._definitions)
        pickler.dump(constants)
        self.constants, self.constant_numbers = file.getvalue(), frozenset(pickler.numbers)

    def describe(self, place: int) -> str:
        """Return a name of a place for messages."""
        return self._watched.describe(place)

    def is_current(self) -> bool:
        """Read the present values; return False if a definition has changed, so that the outline no longer fits."""
        if self._watched.are_unchanged():
            return True
        if not self._watched.update():
            return False
        self._sort_values()
        return self.constant_numbers <= self.travelling


class Snapshots:
    """Provides each call with its snapshot, and packs no outline again while it fits.

    Parameters
    ----------
    definitions : ProgramDefinitions

    Attributes
    ----------
    definitions : ProgramDefinitions
    """

    def __init__(self, definitions: ProgramDefinitions) -> None:
        self.definitions = definitions
        self._known: OrderedDict[TaskFunction, Snapshot] = OrderedDict()

    def of(self, task: TaskFunction, numbers: frozenset[int]) -> Snapshot | None:
        """Return a current snapshot with the task, if it travels by value, and the definitions with these numbers.

        None: there are none.

        Raises
        ------
        ArgumentError
            If something that they refer to cannot be pickled.
        """
        try:
            return self._current(task, numbers)
        except BaseException as error:  # also SystemExit: the class of a value has raised this
            if is_interrupt(error):
                raise
            raise ArgumentError(
                f"task {task.place} cannot be sent to a worker: something it refers to could not be pickled "
                f"({text_of(error)}). {remedy(error)}."
            ) from error

    def forget_changing(self) -> None:
        """Forget the snapshots with values that can change in place, which would keep these alive."""
        for task in [task for task, snapshot in self._known.items() if snapshot.changing]:
            del self._known[task]

    def _current(self, task: TaskFunction, numbers: frozenset[int]) -> Snapshot | None:
        known = self._known.get(task)
        if known is not None and numbers <= known.travelling and known.is_current():
            return known
        number = self.definitions.number_of(task)
        if not numbers and number is None:
            return None
        if known is not None and len(known.given) < _MOST_GIVEN:
            numbers |= known.given
        made = Snapshot(numbers, self.definitions, number)
        while more := made.constant_numbers - made.travelling:
            made = Snapshot(made.given | more, self.definitions, number)
        self._known[task] = made
        self._known.move_to_end(task)
        if len(self._known) > _KNOWN_SNAPSHOTS:
            self._known.popitem(last=False)
        return made
