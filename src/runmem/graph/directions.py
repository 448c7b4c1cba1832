"""Directions and kinds of a task's parameters, under the names that PyCOMPSs gave them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from runmem.errors import TaskDeclarationError

__all__ = [
    "BY_NAME", "KEYS", "Direction", "Kind", "Parameter", "as_parameter",
    "IN", "OUT", "INOUT", "IN_DELETE", "CONCURRENT", "COMMUTATIVE",
    "FILE", "FILE_IN", "FILE_OUT", "FILE_INOUT", "FILE_CONCURRENT", "FILE_COMMUTATIVE",
    "DIRECTORY", "DIRECTORY_IN", "DIRECTORY_OUT", "DIRECTORY_INOUT",
    "COLLECTION", "COLLECTION_IN", "COLLECTION_OUT", "COLLECTION_INOUT",
    "COLLECTION_FILE", "COLLECTION_FILE_IN", "COLLECTION_FILE_OUT", "COLLECTION_FILE_INOUT",
    "DICTIONARY", "DICTIONARY_IN", "DICTIONARY_OUT", "DICTIONARY_INOUT", "Type", "Depth",
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
    """What a parameter is: a Python object, or the path of a file or of a directory."""

    OBJECT = "object"
    FILE = "file"
    DIRECTORY = "directory"


@dataclass(frozen=True, slots=True)
class Parameter:
    """The declared use of one parameter.

    Attributes
    ----------
    name : str
        How it is written in `@task`.
    direction : Direction
    kind : Kind
        Of the parameter, or of each element of a collection.
    depth : int
        Levels of lists, tuples or dictionaries that hold the elements; 0: the parameter itself is the datum.
    is_deleted : bool
        Whether the datum is not needed after the task (``IN_DELETE``).
    stream : str or None
        Which standard stream of a binary the file is: ``stdin``, ``stdout`` or ``stderr``.
    prefix : str
        What stands before the value in the command line of a binary.
    """

    name: str
    direction: Direction
    kind: Kind = Kind.OBJECT
    depth: int = 0
    is_deleted: bool = False
    stream: str | None = None
    prefix: str = ""

    @property
    def is_path(self) -> bool:
        """Whether the parameter, or each element of it, is the path of a file or a directory."""
        return self.kind is not Kind.OBJECT

    @property
    def is_plain_input(self) -> bool:
        """Whether it is an object that is only read."""
        return not self.direction.writes and not self.is_path

    def __repr__(self) -> str:
        return self.name


# Keys of the dictionary form, and the standard streams, as PyCOMPSs names them.
Type, Depth = "type", "depth"
KEYS = {
    "Type": Type,
    "Direction": "direction",
    "StdIOStream": "stream",
    "Prefix": "prefix",
    "Depth": Depth,
    # Where data are kept and what they are called on the way makes no difference here.
    "Weight": "weight",
    "Keep_rename": "keep_rename",
    "Cache": "cache",
}
_STREAMS = ("stdin", "stdout", "stderr")
# Tasks with CONCURRENT or COMMUTATIVE data may run in any order, or together where storage is shared; the program's
# order is one of those.
_DIRECTIONS = {
    "IN": Direction.IN,
    "OUT": Direction.OUT,
    "INOUT": Direction.INOUT,
    "CONCURRENT": Direction.INOUT,
    "COMMUTATIVE": Direction.INOUT,
}
_WITH_KINDS = "one of these behind FILE_, DIRECTORY_, COLLECTION_, COLLECTION_FILE_ or DICTIONARY_"


def _all_parameters() -> Iterator[Parameter]:
    """Yield every direction that PyCOMPSs names."""
    for word, direction in _DIRECTIONS.items():
        yield Parameter(word, direction)
        yield Parameter(f"FILE_{word}", direction, Kind.FILE)
        yield from (Parameter(f"FILE_{word}_{s.upper()}", direction, Kind.FILE, stream=s) for s in _STREAMS)
        yield Parameter(f"DIRECTORY_{word}", direction, Kind.DIRECTORY)
        yield Parameter(f"COLLECTION_{word}", direction, depth=1)
        yield Parameter(f"COLLECTION_FILE_{word}", direction, Kind.FILE, depth=1)
        yield Parameter(f"DICTIONARY_{word}", direction, depth=1)
    yield Parameter("FILE", Direction.IN, Kind.FILE)
    yield from (Parameter(f"FILE_{s.upper()}", Direction.IN, Kind.FILE, stream=s) for s in _STREAMS)
    yield Parameter("DIRECTORY", Direction.IN, Kind.DIRECTORY)
    yield Parameter("COLLECTION", Direction.IN, depth=1)
    yield Parameter("COLLECTION_FILE", Direction.IN, Kind.FILE, depth=1)
    yield Parameter("DICTIONARY", Direction.IN, depth=1)
    yield Parameter("IN_DELETE", Direction.IN, is_deleted=True)
    yield Parameter("COLLECTION_IN_DELETE", Direction.IN, depth=1, is_deleted=True)
    yield Parameter("DICTIONARY_IN_DELETE", Direction.IN, depth=1, is_deleted=True)
    yield Parameter("STREAM_IN", Direction.IN)  # the ends of a stream are objects that only send and receive
    yield Parameter("STREAM_OUT", Direction.IN)


BY_NAME = {parameter.name: parameter for parameter in _all_parameters()}

IN, OUT, INOUT, IN_DELETE = (BY_NAME[name] for name in ("IN", "OUT", "INOUT", "IN_DELETE"))
CONCURRENT, COMMUTATIVE = BY_NAME["CONCURRENT"], BY_NAME["COMMUTATIVE"]
FILE, FILE_IN, FILE_OUT, FILE_INOUT = (BY_NAME[name] for name in ("FILE", "FILE_IN", "FILE_OUT", "FILE_INOUT"))
FILE_CONCURRENT, FILE_COMMUTATIVE = BY_NAME["FILE_CONCURRENT"], BY_NAME["FILE_COMMUTATIVE"]
DIRECTORY, DIRECTORY_IN = BY_NAME["DIRECTORY"], BY_NAME["DIRECTORY_IN"]
DIRECTORY_OUT, DIRECTORY_INOUT = BY_NAME["DIRECTORY_OUT"], BY_NAME["DIRECTORY_INOUT"]
COLLECTION, COLLECTION_IN = BY_NAME["COLLECTION"], BY_NAME["COLLECTION_IN"]
COLLECTION_OUT, COLLECTION_INOUT = BY_NAME["COLLECTION_OUT"], BY_NAME["COLLECTION_INOUT"]
COLLECTION_FILE, COLLECTION_FILE_IN = BY_NAME["COLLECTION_FILE"], BY_NAME["COLLECTION_FILE_IN"]
COLLECTION_FILE_OUT, COLLECTION_FILE_INOUT = BY_NAME["COLLECTION_FILE_OUT"], BY_NAME["COLLECTION_FILE_INOUT"]
DICTIONARY, DICTIONARY_IN = BY_NAME["DICTIONARY"], BY_NAME["DICTIONARY_IN"]
DICTIONARY_OUT, DICTIONARY_INOUT = BY_NAME["DICTIONARY_OUT"], BY_NAME["DICTIONARY_INOUT"]


def as_parameter(value: object, where: str) -> Parameter:
    """Return the `Parameter` that a direction in `@task` stands for.

    Parameters
    ----------
    value
        A direction, its name as a string, or the dictionary form, such as ``{Type: COLLECTION_OUT, Depth: 2}``.
    where : str
        Names the task and the parameter in the error.

    Raises
    ------
    TaskDeclarationError
        For anything else.
    """
    if isinstance(value, Parameter):
        return value
    if isinstance(value, str) and value in BY_NAME:
        return BY_NAME[value]
    if isinstance(value, dict) and value:
        return _from_dictionary(value, where)
    similar = difflib.get_close_matches(str(value), BY_NAME, 1) if isinstance(value, str) else []
    hint = f"did you mean {similar[0]}?" if similar else f"write one of {', '.join(_DIRECTIONS)}, or {_WITH_KINDS}."
    raise TaskDeclarationError(f"{where}: {value!r} is not a direction; {hint}")


def _from_dictionary(form: dict[object, object], where: str) -> Parameter:
    for key in form:
        if key not in KEYS.values():
            raise TaskDeclarationError(f"{where}: {key!r} is not a key of a direction; write one of {', '.join(KEYS)}.")
    made = as_parameter(form.get("type", IN), where)
    if "direction" in form:
        direction = as_parameter(form["direction"], where)
        made = replace(
            made,
            name=f"{made.name}/{direction.name}",
            direction=direction.direction,
            is_deleted=made.is_deleted or direction.is_deleted,
        )
    if "depth" in form:
        depth = form["depth"]
        if not isinstance(depth, int) or isinstance(depth, bool) or depth < 1 or not made.depth:
            raise TaskDeclarationError(
                f"{where}: Depth: {depth!r} with {made.name}; Depth is 1 or more, the levels of a COLLECTION or "
                "DICTIONARY."
            )
        made = replace(made, name=f"{made.name} of depth {depth}", depth=depth)
    if "stream" in form:
        stream = form["stream"]
        if stream not in _STREAMS or made.kind is not Kind.FILE:
            raise TaskDeclarationError(
                f"{where}: StdIOStream: {stream!r} with {made.name}; it is STDIN, STDOUT or STDERR, of a FILE."
            )
        made = replace(made, stream=str(stream))
    if "prefix" in form:
        made = replace(made, prefix=str(form["prefix"]))
    return made
