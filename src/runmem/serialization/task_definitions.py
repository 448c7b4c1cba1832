"""The definitions of a task that calls tasks: those of the program, as its worker has them, and those that it makes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from runmem.errors import ResultError
from runmem.serialization.definitions import (
    Definitions,
    NamespaceKey,
    ProgramDefinitions,
    current_definitions,
    set_current_definitions,
)

__all__ = ["TaskDefinitions", "using"]


_NUMBERS_EACH = 1 << 20
_firsts = count(secrets.randbits(62) << 32, _NUMBERS_EACH)  # asking the kernel each time would take longer


class TaskDefinitions(ProgramDefinitions):
    """Definitions to which the calls refer that a task makes.

    Those of the program have the program's numbers. The others get numbers that no other process gives.

    Parameters
    ----------
    copy : Definitions
        The copy of the program in which the task runs.
    """

    def __init__(self, copy: Definitions) -> None:
        super().__init__()
        self._copy = copy
        self._last = next(_firsts)

    def number_of(self, datum: object) -> int | None:
        """Return the number of a definition that travels by value; None: it travels by reference."""
        number = self._copy.number_of(datum)
        return super().number_of(datum) if number is None else number

    def known_number_of(self, datum: object) -> int | None:
        """Return the number that a definition has already, if it has one."""
        number = self._copy.number_of(datum)
        return super().known_number_of(datum) if number is None else number

    def object_of(self, number: int) -> Any:
        """Return the task's own object."""
        if number in self._objects:
            return super().object_of(number)
        try:
            return self._copy.object_of(number)
        except ResultError:
            return super().object_of(number)  # raises what it says of a definition that is gone

    def namespace_key(self, names: dict[str, object]) -> NamespaceKey:
        """Return the key of a function's globals."""
        return self._copy.namespace_key(names)

    def namespace(self, key: NamespaceKey) -> dict[str, object]:
        """Return the globals of functions with this key."""
        return self._copy.namespace(key)


@contextmanager
def using(definitions: Definitions) -> Iterator[None]:
    """Make numbers refer to these definitions in this thread, inside the block."""
    before = current_definitions()
    set_current_definitions(definitions)
    try:
        yield
    finally:
        set_current_definitions(before)
