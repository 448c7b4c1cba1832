"""Directions and kinds of a task's parameters, under the names that PyCOMPSs gave them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from runmem.errors import TaskDeclarationError

__all__ = [
    "Direction", "Kind", "Parameter", "as_parameter", "IN", "OUT", "INOUT", "IN_DELETE", "CONCURRENT", "COMMUTATIVE",
    "FILE", "FILE_IN", "FILE_OUT", "FILE_INOUT", "COLLECTION", "COLLECTION_IN", "Type", "Direction_key",
]  # fmt: skip


class Direction(Enum):
    """What a task does with a parameter."""

    IN = "reads"
    OUT = "writes"
    INOUT = "reads and writes"

    @property
    def writes(self) -> bool:
        """Whether the task makes a new version of the datum."""
        return self is not Direction.IN


class Kind(Enum):
    """What a parameter is: a Python object, or the path of a file."""

    OBJECT = "object"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Parameter:
    """The declared use of one parameter."""

    name: str
    direction: Direction
    kind: Kind = Kind.OBJECT

    def __repr__(self) -> str:
        return self.name


IN = Parameter("IN", Direction.IN)
OUT = Parameter("OUT", Direction.OUT)
INOUT = Parameter("INOUT", Direction.INOUT)
IN_DELETE = Parameter("IN_DELETE", Direction.IN)
# Tasks with these two may run in any order, or together where storage is shared; the program's order is one of those.
CONCURRENT = Parameter("CONCURRENT", Direction.INOUT)
COMMUTATIVE = Parameter("COMMUTATIVE", Direction.INOUT)
FILE = Parameter("FILE", Direction.IN, Kind.FILE)
FILE_IN = Parameter("FILE_IN", Direction.IN, Kind.FILE)
FILE_OUT = Parameter("FILE_OUT", Direction.OUT, Kind.FILE)
FILE_INOUT = Parameter("FILE_INOUT", Direction.INOUT, Kind.FILE)
# Futures inside containers are always resolved, so a collection that is only read is a plain IN.
COLLECTION = Parameter("COLLECTION", Direction.IN)
COLLECTION_IN = Parameter("COLLECTION_IN", Direction.IN)

Type = "type"
Direction_key = "direction"
_BY_NAME = {
    p.name: p
    for p in (
        IN, OUT, INOUT, IN_DELETE, CONCURRENT, COMMUTATIVE, FILE, FILE_IN, FILE_OUT, FILE_INOUT, COLLECTION,
        COLLECTION_IN,
    )
}  # fmt: skip


def as_parameter(value: Any, where: str) -> Parameter:
    """Return what was written as the direction of a parameter.

    Parameters
    ----------
    value
        A direction, its name as a string, or the dictionary form ``{Type: FILE, Direction: INOUT}``.
    where : str
        Names the task and the parameter in the error.

    Raises
    ------
    TaskDeclarationError
        For anything else.
    """
    if isinstance(value, Parameter):
        return value
    if isinstance(value, str) and value in _BY_NAME:
        return _BY_NAME[value]
    if isinstance(value, dict) and set(value) <= {Type, Direction_key} and value:
        kind = as_parameter(value.get(Type, IN), where)
        direction = as_parameter(value[Direction_key], where).direction if Direction_key in value else kind.direction
        return Parameter(f"{kind.name}/{direction.name}", direction, kind.kind)
    raise TaskDeclarationError(f"{where}: {value!r} is not a direction; write one of {', '.join(_BY_NAME)}.")
