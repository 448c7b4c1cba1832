"""A task's signature together with the directions of its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from runmem.errors import TaskDeclarationError
from runmem.graph.directions import IN, INOUT, Parameter, as_parameter
from runmem.graph.options import nearest_name
from runmem.standard_error import as_sentence

__all__ = ["TaskSignature"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class TaskSignature:
    """The parameters of a task.

    Parameters
    ----------
    function : callable
    directions : dict
        Name of a parameter to its direction, as written in `@task`.
    target_direction, varargs_type
        Direction of ``self`` (default INOUT) and of ``*args`` (default IN).
    outputs : int
        How many of the last parameters a call may leave out, because they are made for it.

    Raises
    ------
    TaskDeclarationError
        If a name is not a parameter of the function, or a direction is none.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        directions: dict[str, Any],
        target_direction: Any,
        varargs_type: Any,
        outputs: int = 0,
    ) -> None:
        self._name = getattr(function, "__qualname__", repr(function))
        try:
            self.signature = inspect.signature(function)
        except ValueError as error:
            raise TaskDeclarationError(
                f"@task on {self._name}: its signature cannot be read ({error}). Put @task on a function that calls it."
            ) from None
        if outputs:
            declared = list(self.signature.parameters.values())
            optional = [parameter.replace(default=None) for parameter in declared[-outputs:]]
            self.signature = self.signature.replace(parameters=[*declared[:-outputs], *optional])
        parameters = self.signature.parameters
        self.positional = tuple(p.name for p in parameters.values() if p.kind in _POSITIONAL)
        self.varargs = next((p.name for p in parameters.values() if p.kind is inspect.Parameter.VAR_POSITIONAL), None)
        self.varkwargs = next((p.name for p in parameters.values() if p.kind is inspect.Parameter.VAR_KEYWORD), None)
        self._simple = all(p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for p in parameters.values())
        self._required = sum(p.default is inspect.Parameter.empty for p in parameters.values())
        self._uses = self._declared(directions)
        if self.positional and self.positional[0] == "self" and "." in self._name:
            self._uses.setdefault("self", as_parameter(target_direction or INOUT, f"{self._name}, target_direction"))
        if self.varargs is not None:
            self._uses.setdefault(self.varargs, as_parameter(varargs_type or IN, f"{self._name}, varargs_type"))
        self.only_reads = all(use.is_plain_input and not use.is_deleted for use in self._uses.values())
        self.reads_collections = any(use.depth and use.is_plain_input for use in self._uses.values())
        self._declared_defaults = {
            p.name: p.default
            for p in parameters.values()
            if p.default is not p.empty and p.kind is not p.POSITIONAL_ONLY and not self.use_of(p.name).is_plain_input
        }

    def _declared(self, directions: dict[str, Any]) -> dict[str, Parameter]:
        uses = {}
        for name, written in directions.items():
            if name not in self.signature.parameters and self.varkwargs is None:
                raise TaskDeclarationError(
                    f"@task({name}=...): {self._name}{self.signature} has no parameter {name!r} and @task has no such "
                    f"option; {as_sentence(nearest_name(name, self.signature.parameters))}"
                )
            uses[name] = as_parameter(written, f"@task({name}=...) of {self._name}{self.signature}")
        return uses

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise the TypeError that the function itself would raise for these arguments, before anything is sent."""
        if self._simple and not kwargs and self._required <= len(args) <= len(self.positional):
            return
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._name}{self.signature}: {error}") from None

    def with_declared_defaults(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return `kwargs` with the defaults of parameters that are files or written: the call must know them."""
        given = self.positional[: len(args)]
        left = {
            name: value for name, value in self._declared_defaults.items() if name not in given and value is not None
        }
        return {**left, **kwargs} if left else kwargs

    def use_of(self, name: str) -> Parameter:
        """Return the direction of the parameter `name`; what ``**kwargs`` takes has the direction of ``kwargs``."""
        use = self._uses.get(name)
        if use is None and self.varkwargs is not None and name not in self.signature.parameters:
            use = self._uses.get(self.varkwargs)
        return use or IN

    def parameter_at(self, place: int | str) -> str:
        """Return the name of the parameter that an argument goes to, such as ``path`` or ``args[2]``."""
        if isinstance(place, str):
            return place
        if place < len(self.positional):
            return self.positional[place]
        return f"{self.varargs}[{place - len(self.positional)}]"

    def uses(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[int | str, Parameter]]:
        """Yield the place of each argument that is not a plain object to read, with its direction."""
        for place, use in self._all_uses(args, kwargs):
            if not use.is_plain_input or use.is_deleted:
                yield place, use

    def collections_read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[int | str, Parameter]]:
        """Yield the place of each argument that is a collection of objects to read, with its direction."""
        for place, use in self._all_uses(args, kwargs):
            if use.depth and use.is_plain_input:
                yield place, use

    def _all_uses(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[int | str, Parameter]]:
        for position in range(len(args)):
            name = self.positional[position] if position < len(self.positional) else self.varargs
            yield position, self._uses.get(name or "", IN)
        for name in kwargs:
            yield name, self.use_of(name)
