"""The arguments of a call that are paths: of files, of directories, of files in collections."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from runmem.errors import ArgumentError
from runmem.graph.call import Execution, FileUse, Slot
from runmem.graph.directions import Direction, Kind, Parameter
from runmem.graph.elements import elements
from runmem.graph.files import FileVersions
from runmem.graph.signature import TaskSignature
from runmem.store.output import ResolvedPath, resolve

__all__ = ["FileArgument", "FilesOfCall", "file_arguments", "use_files"]


class FileArgument(NamedTuple):
    """A path among the arguments: where it leads, and its declared use."""

    place: ResolvedPath
    use: Parameter


class FilesOfCall(NamedTuple):
    """What a call does with files.

    Attributes
    ----------
    paths : dict
        For each slot the path that the task gets.
    uses : list of FileUse
    after : list of Execution
        What must have ended before.
    """

    paths: dict[Slot, str]
    uses: list[FileUse]
    after: list[Execution]


def file_arguments(
    name: str, signature: TaskSignature, args: tuple[object, ...], kwargs: dict[str, object]
) -> dict[Slot, FileArgument]:
    """Return the arguments that are declared as paths, and elements of collections that are, by their slots.

    None stands for no file and is passed on as it is.

    Raises
    ------
    ArgumentError
        For what is no path, or a path that the task cannot write to.
    """
    found: dict[Slot, FileArgument] = {}
    for argument, use in signature.uses(args, kwargs):
        if not use.is_path:
            continue
        value = args[argument] if isinstance(argument, int) else kwargs[argument]
        where = f"{name}: parameter {signature.parameter_at(argument)!r} is declared {use!r}"
        for slot, path in _paths(value, use, argument, where):
            if path is not None:
                found[slot] = FileArgument(_place_of(path, use, where), use)
    return found


def _paths(value: object, use: Parameter, argument: int | str, where: str) -> Iterator[tuple[Slot, object]]:
    if not use.depth:
        yield argument, value
    elif value is not None:
        found = elements(value, use.depth, argument, where, are_paths=True)
        yield from ((element.slot, element.value) for element in found)


def _place_of(path: object, use: Parameter, where: str) -> ResolvedPath:
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError(f"{where}, so it takes a path; it was given {path!r} of type {type(path).__name__}.")
    try:
        place = resolve(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(f"{where}, but {os.fspath(path)!r} cannot be used: {reason}. Give another path.") from error
    if use.kind is Kind.DIRECTORY:
        if place.status is not None and not place.is_folder:
            raise ArgumentError(f"{where}, but {os.fspath(path)!r} is not a directory: give the path of one.")
    elif use.direction.writes and place.obstacle is not None:
        raise ArgumentError(
            f"{where}, so the task writes a file, and {os.fspath(path)!r} is {place.obstacle}: give the path of a "
            "file, of a device to write to, or of a pipe."
        )
    return place


def use_files(arguments: dict[Slot, FileArgument], files: FileVersions, execution: Execution) -> FilesOfCall:
    """Make the new versions of the files that a call writes, and note those that it reads.

    A call that names one file twice uses one version of it: it writes what it reads, as the plain call would.
    """
    by_name: dict[str, dict[Slot, FileArgument]] = {}
    for slot, argument in arguments.items():
        by_name.setdefault(argument.place.real, {})[slot] = argument
    found = FilesOfCall({}, [], [])
    for same in by_name.values():
        places = [argument.place for argument in same.values()]
        is_folder = any(argument.use.kind is Kind.DIRECTORY for argument in same.values())
        written = [argument.place for argument in same.values() if argument.use.direction.writes]
        if not written:
            file, writer = files.read(places[0], execution, is_folder)
        else:
            reads = any(argument.use.direction is not Direction.OUT for argument in same.values())
            file, writer = files.write(written[0], execution, reads, is_folder)
        if writer is not None:
            found.after.append(writer)
        names = {slot: files.path_for(argument.place) for slot, argument in same.items()}
        found.paths.update(names)
        if file is not None:
            found.uses.append(file._replace(places=names))
    return found
