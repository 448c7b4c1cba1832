"""`@data_transformation`: tasks that change an argument before another task gets it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from runmem.errors import ArgumentError, TaskDeclarationError
from runmem.graph.directions import COLLECTION_IN, DIRECTORY_IN, DIRECTORY_OUT, FILE_IN, FILE_OUT
from runmem.graph.task import TaskFunction, task

__all__ = ["KINDS", "Transformation", "TransformationsBefore", "transformation_of"]

KINDS = (
    "OBJECT_TO_FILE", "FILE_TO_OBJECT", "FILE_TO_COLLECTION", "COLLECTION_TO_OBJECT", "COLLECTION_TO_FILE",
    "OBJECT_TO_DIRECTORY", "DIRECTORY_TO_OBJECT", "COLLECTION_TO_DIRECTORY",
)  # fmt: skip
"""Each kind's value, as PyCOMPSs numbers them, is its position."""

_PARAMETER = re.compile(r"\{\{(\w+)\}\}")


def _made(target: Any, function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    return function(target, **arguments)


def _written(target: Any, destination: str, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    function(target, destination, **arguments)


def _task(name: str, function: Any, **options: Any) -> TaskFunction:
    """Return a task that calls `function`, under a name by which a worker can import it from here."""
    named = FunctionType(function.__code__, globals(), name)
    named.__qualname__ = name
    made: TaskFunction = task(**options)(named)
    return made


transform = _task("transform", _made, returns=1)
collection_to_object = _task("collection_to_object", _made, returns=1, target=COLLECTION_IN)
file_to_object = _task("file_to_object", _made, returns=1, target=FILE_IN)
directory_to_object = _task("directory_to_object", _made, returns=1, target=DIRECTORY_IN)
object_to_file = _task("object_to_file", _written, destination=FILE_OUT)
collection_to_file = _task("collection_to_file", _written, target=COLLECTION_IN, destination=FILE_OUT)
object_to_directory = _task("object_to_directory", _written, destination=DIRECTORY_OUT)
collection_to_directory = _task("collection_to_directory", _written, target=COLLECTION_IN, destination=DIRECTORY_OUT)

_WRITERS = {
    "OBJECT_TO_FILE": object_to_file,
    "COLLECTION_TO_FILE": collection_to_file,
    "OBJECT_TO_DIRECTORY": object_to_directory,
    "COLLECTION_TO_DIRECTORY": collection_to_directory,
}
_READERS = {
    None: transform,
    "FILE_TO_OBJECT": file_to_object,
    "COLLECTION_TO_OBJECT": collection_to_object,
    "DIRECTORY_TO_OBJECT": directory_to_object,
}


@dataclass(frozen=True)
class Transformation:
    """What is done to one argument.

    Attributes
    ----------
    target : str
        Name of the parameter.
    function : callable
    kind : str or None
        One of `KINDS`; None: an object becomes another one.
    destination : str
        Where a file or a directory is written.
    is_workflow : bool
        Whether the function is called in the program, where it may call tasks itself.
    arguments : dict
        Further arguments of the function; ``"{{name}}"`` means an argument of the task.
    """

    target: str
    function: Callable[..., Any]
    kind: str | None = None
    destination: str = "dt_file_out"
    is_workflow: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)

    def new_value(self, value: Any, given: Mapping[str, Any]) -> Any:
        """Return the new value of an argument, mostly a future; `given`: all arguments by name."""
        arguments: dict[str, Any] = {name: _replaced(each, given) for name, each in self.arguments.items()}
        if self.is_workflow:
            return self.function(value, **arguments)
        if self.kind in _WRITERS:
            _WRITERS[self.kind](value, self.destination, self.function, arguments)
            return self.destination
        if self.kind == "FILE_TO_COLLECTION":
            size = int(arguments.pop("size"))
            values = file_to_object(value, self.function, arguments, returns=size)
            return [values] if size == 1 else values
        return _READERS[self.kind](value, self.function, arguments)


def _replaced(value: object, given: Mapping[str, Any]) -> object:
    name = _PARAMETER.fullmatch(value) if isinstance(value, str) else None
    return given.get(name[1], value) if name is not None else value


@dataclass(frozen=True)
class TransformationsBefore:
    """The transformations of a task, in the order in which they are done: that of the decorators, from the top."""

    transformations: tuple[Transformation, ...] = ()

    def __call__(
        self, of: TaskFunction, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a call with those that were transformed in their places.

        ``dt=`` among them is one more transformation, or a list of them.
        """
        positions = list(args)
        kwargs = dict(kwargs)
        more = kwargs.pop("dt", ()) if "dt" not in of.signature.signature.parameters else ()
        more = more if isinstance(more, (list, tuple)) else [more]
        for each in (*self.transformations, *more):
            if not isinstance(each, Transformation):
                raise ArgumentError(f"call of task {of.name}: dt={each!r} is neither a dto(...) nor a list of them.")
            bound = of.signature.signature.bind_partial(*positions, **kwargs)
            bound.apply_defaults()
            if each.target not in bound.arguments:
                raise ArgumentError(f"call of task {of.name}: there is no argument {each.target!r} to transform.")
            value = each.new_value(bound.arguments[each.target], bound.arguments)
            names = of.signature.positional[: len(positions)]
            if each.target in names:
                positions[names.index(each.target)] = value
            else:
                kwargs[each.target] = value
        return tuple(positions), kwargs


def transformation_of(args: tuple[object, ...], options: Mapping[str, object]) -> Transformation | None:
    """Return the transformation that the arguments of `@dt` or `dto` declare; None if there are none.

    Raises
    ------
    TaskDeclarationError
        For a kind that there is not, or if the function is missing.
    """
    if not args and not options:
        return None
    rest = dict(options)
    target, function = (*args, None, None)[:2]
    target, function = rest.pop("target", target), rest.pop("function", function)
    number, destination = rest.pop("type", None), rest.pop("destination", "dt_file_out")
    workflow = str(rest.pop("is_workflow", False)).lower() in ("true", "1")
    kind = KINDS[number] if isinstance(number, int) and 0 <= number < len(KINDS) else number
    if not isinstance(target, str) or not callable(function) or kind not in (None, *KINDS):
        raise TaskDeclarationError(
            f"@data_transformation: target={target!r}, function={function!r}, type={number!r}; it takes the name of a "
            f"parameter, a function, and as type, where it changes, one of {', '.join(KINDS)}."
        )
    if kind == "FILE_TO_COLLECTION" and "size" not in rest:
        raise TaskDeclarationError(f"@data_transformation of {target!r}: FILE_TO_COLLECTION needs size=.")
    return Transformation(target, function, kind, str(destination), workflow, rest)
