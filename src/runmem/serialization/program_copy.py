"""A worker's copy of the program's functions and classes, in which calls run one after the other.

A copy is used by one call at a time, and restored when the call has ended: its assignments to globals, class attributes
and the like are undone, and the values that can change in place are released. So no call sees changes that another one
made to the program's definitions, whichever worker it runs on.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextvars import ContextVar, Token
from itertools import repeat
from operator import is_
from types import CellType
from typing import Any

from runmem.errors import ResultError
from runmem.serialization.definitions import (
    CachedFunction,
    NamespaceKey,
    NoDefinitions,
    library_namespace,
    namespace_key,
    set_current_definitions,
)
from runmem.serialization.outline import Outline
from runmem.serialization.references import Empty, contents_of, loads

__all__ = ["ProgramCopies", "ProgramCopy", "program_copies"]

_MISSING: Any = object()


class ProgramCopy:
    """The definitions of one outline.

    Parameters
    ----------
    outline : bytes
        See `runmem.serialization.snapshot.Snapshot`.

    Attributes
    ----------
    main : module
        The program as a module.
    snapshots
        Those for calls that its tasks make, if one has made any; kept here, and used above this module.
    """

    is_program = False

    def __init__(self, outline: bytes) -> None:
        self._outline = Outline(outline)
        self._objects = self._outline.objects
        self.snapshots: Any = None
        self._numbers = {id(datum): number for number, datum in self._objects.items()}
        self._keys = {id(names): key for key, names in self._outline.namespaces.items()}
        self.main = self._outline.main
        self._cached = [datum for datum in self._objects.values() if isinstance(datum, CachedFunction)]
        self._constants: bytes | None = None
        self._changing: list[int] = []
        self._adopted: list[int] = []
        self._variables = {place for place, found in enumerate(self._outline.places) if found.kind == "context"}
        self._variable_values: dict[int, object] = {}
        self._tokens: list[tuple[ContextVar[Any], Token[Any]]] = []
        for place in range(len(self._outline.places)):
            self._set(place, None)
        self._note()

    # --- as `Definitions` ---------------------------------------------------------------------------------------------

    def number_of(self, datum: object) -> int | None:
        """Return the number of a definition of this copy."""
        number = self._numbers.get(id(datum))
        return number if number is not None and self._objects[number] is datum else None

    def object_of(self, number: int) -> Any:
        """Return this copy's definition."""
        try:
            return self._objects[number]
        except KeyError:
            raise ResultError(
                f"definition {number} of the program is needed and did not come along with the call: please report this"
            ) from None

    def adopt(self, number: int, datum: object) -> None:
        """Use a definition that came with a value as the one with this number, until the call ends."""
        self._objects[number] = datum
        self._numbers[id(datum)] = number
        self._adopted.append(number)

    def namespace_key(self, names: dict[str, object]) -> NamespaceKey:
        """Return the key of a function's globals."""
        return self._keys.get(id(names)) or namespace_key(names) or NamespaceKey("other", id(names))

    def namespace(self, key: NamespaceKey) -> dict[str, object]:
        """Return globals by their key."""
        return library_namespace(key) if key.kind == "library" else self._outline.namespace(key)

    # --- around a call ------------------------------------------------------------------------------------------------

    def begin(self, constants: bytes) -> None:
        """Set the values that nothing can change in place, before a call; see `Snapshot.constants`."""
        if constants != self._constants:
            values = loads(constants)
            self._variable_values = {place: values[place] for place in self._variables & values.keys()}
            for place, value in values.items():
                self._set(place, value)
            self._constants = constants
            self._note()
            self._clear_caches()
        self._set_variables(self._variable_values)

    def set_changing(self, values: Mapping[int, object]) -> None:
        """Set the other values, which are the call's own."""
        for place, value in values.items():
            self._set(place, value)
        self._set_variables({place: values[place] for place in self._variables & values.keys()})
        self._changing += values
        if values:
            self._clear_caches()

    def end(self) -> None:
        """Restore everything after a call."""
        while self._adopted:
            del self._numbers[id(self._objects.pop(self._adopted.pop()))]
        while self._tokens:
            variable, token = self._tokens.pop()
            variable.reset(token)
        for place in self._changing:
            self._set(place, None)
        if self._changing:
            self._changing = []
            self._clear_caches()
        for mapping, owner, names, values in self._noted:
            if len(mapping) != len(names) or not all(map(is_, map(mapping.get, names, repeat(_MISSING)), values)):
                _restore(mapping, owner, dict(zip(names, values, strict=True)))
        for cell, value in self._noted_cells:
            if contents_of(cell) is not value:
                _fill_cell(cell, value)

    def _set(self, place: int, value: object) -> None:
        kind, target, key = self._outline.places[place]
        if kind == "global":
            self._outline.namespace(target)[key] = value
        elif kind == "cell":
            _fill_cell(target, value)
        elif kind == "attribute":
            type.__setattr__(target, key, value)
        elif kind == "item":
            vars(target)[key] = value
        elif kind == "default":
            setattr(target, key, value)

    def _set_variables(self, values: Mapping[int, object]) -> None:
        """Set context variables, for this call: their values are those of the thread."""
        for place, value in values.items():
            if value is not Empty:
                variable = self._outline.places[place].target
                self._tokens.append((variable, variable.set(value)))

    def _note(self) -> None:
        """Note the present state, to restore it."""
        mappings: list[tuple[Any, Any]] = [(names, None) for names in self._outline.namespaces.values()]
        mappings += [(vars(datum), datum) for datum in self._objects.values() if isinstance(datum, type)]
        mappings += [(target.__dict__, None) for kind, target, _ in self._outline.places if kind == "item"]
        self._noted = [(mapping, owner, tuple(mapping), tuple(mapping.values())) for mapping, owner in mappings]
        cells = [target for kind, target, _ in self._outline.places if kind == "cell"]
        self._noted_cells = [(cell, contents_of(cell)) for cell in cells]

    def _clear_caches(self) -> None:
        for cached in self._cached:
            cached.cache_clear()


def _fill_cell(cell: CellType, value: object) -> None:
    if value is not Empty:
        cell.cell_contents = value
    elif contents_of(cell) is not Empty:
        del cell.cell_contents


def _restore(mapping: Any, owner: type | None, before: dict[str, object]) -> None:
    if owner is None:
        mapping.clear()
        mapping.update(before)
        return
    for name in [name for name in mapping if name not in before]:
        type.__delattr__(owner, name)
    for name, value in before.items():
        if mapping.get(name, _MISSING) is not value:
            type.__setattr__(owner, name, value)


class ProgramCopies:
    """The copies that this process keeps for calls to come.

    Parameters
    ----------
    keep_bytes : int
        How large the outlines of the copies may be that are kept and not in use.
    """

    def __init__(self, keep_bytes: int = 2 * 1024**2) -> None:
        self._keep_bytes = keep_bytes
        self._idle: OrderedDict[bytes, list[ProgramCopy]] = OrderedDict()
        self._lock = threading.Lock()
        self._in_use = 0
        self._main = sys.modules["__main__"]  # the process's own, while copies are in its place

    def begin(self, outline: bytes | None, constants: bytes) -> ProgramCopy | None:
        """Make numbers refer to a copy in this thread, and reserve it for one call, until `end`.

        None, and no definition of the program is there, if the call needs none.
        """
        if outline is None:
            set_current_definitions(_NO_DEFINITIONS)
            return None
        copy = self._taken(outline)
        set_current_definitions(copy)
        with self._lock:
            if not self._in_use:
                self._main = sys.modules["__main__"]
            self._in_use += 1
            sys.modules["__main__"] = copy.main  # so that plain `pickle` finds the program's classes in the task
        try:
            copy.begin(constants)
        except BaseException:
            self.end(outline, copy)
            raise
        return copy

    def end(self, outline: bytes | None, copy: ProgramCopy | None) -> None:
        """End the reservation that `begin` made."""
        set_current_definitions(None)
        if copy is not None and outline is not None:
            with self._lock:
                self._in_use -= 1
                if not self._in_use:
                    sys.modules["__main__"] = self._main
            copy.end()
            self._give_back(outline, copy)

    def use_again(self, copy: ProgramCopy) -> None:
        """Make a copy that is reserved the program of this process, after others were that meanwhile."""
        with self._lock:
            sys.modules["__main__"] = copy.main

    def prepare(self, outline: bytes) -> None:
        """Make a copy, if none is idle, for a call that comes soon."""
        self._give_back(outline, self._taken(outline))

    def _taken(self, outline: bytes) -> ProgramCopy:
        with self._lock:
            found = self._idle.get(outline)
            if found:
                return found.pop()
        return ProgramCopy(outline)

    def _give_back(self, outline: bytes, copy: ProgramCopy) -> None:
        with self._lock:
            self._idle.setdefault(outline, []).append(copy)
            self._idle.move_to_end(outline)
            while (
                len(self._idle) > 1 and sum(len(o) * len(copies) for o, copies in self._idle.items()) > self._keep_bytes
            ):
                self._idle.popitem(last=False)


_NO_DEFINITIONS = NoDefinitions()
program_copies = ProgramCopies()
"""The copies of this process."""
