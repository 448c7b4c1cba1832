"""The processors, memory and the like that a task needs, as `@constraint` declares them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runmem.errors import ArgumentError, TaskDeclarationError

if TYPE_CHECKING:
    from runmem.graph.call import TaskCall
    from runmem.graph.task import TaskFunction

__all__ = [
    "CONSTRAINTS", "NAMES", "Constraints", "declared_constraints", "gpus_of", "memory_of", "units_for", "units_of",
]  # fmt: skip

CONSTRAINTS = "@constraints"
"""The option of a task that has its `Constraints`."""

_GB = 10**9
_UNITS, _MEMORY, _GPUS = "computing_units", "memory_size", "gpus"
_TEXTS = (
    "is_local", "processor_name", "processor_speed", "processor_architecture", "processor_type",
    "processor_property_name", "processor_property_value", "processor_internal_memory_size", "memory_type",
    "storage_size", "storage_type", "storage_bandwidth", "operating_system_type", "operating_system_distribution",
    "operating_system_version", "wall_clock_limit", "host_queues", "app_software",
)  # fmt: skip
NAMES = (_UNITS, _MEMORY, "processors", *_TEXTS)


@dataclass(frozen=True, slots=True)
class Constraints:
    """The resources that each call of a task needs.

    Attributes
    ----------
    computing_units : int
        Processor cores.
    memory_bytes : int or None
        Memory; None: any.
    gpus : int
        Graphics processors.
    expressions : tuple of (str, str)
        What is known at a call only: ``computing_units``, ``memory_size`` (in GB) or ``gpus``, and an expression over
        the parameters and globals of the task, or text with environment variables.
    others : tuple of (str, str)
        The other constraints as text.
    """

    computing_units: int = 1
    memory_bytes: int | None = None
    gpus: int = 0
    expressions: tuple[tuple[str, str], ...] = ()
    others: tuple[tuple[str, str], ...] = ()


def declared_constraints(options: Mapping[str, object], known: Constraints, where: str) -> Constraints:
    """Return constraints of a task with those that one `@constraint` adds.

    Parameters
    ----------
    options : mapping
        The keywords of `@constraint` in snake case; those that are unknown are ignored.
    known : Constraints
        Those of the decorators below.
    where : str
        Names the task with file and line.

    Raises
    ------
    TaskDeclarationError
        For a number of computing units or an amount of memory that is none.
    """
    numbers: dict[str, object] = {name: options[name] for name in (_UNITS, _MEMORY) if options.get(name) is not None}
    if options.get("processors") is not None:
        numbers |= _units_of_processors(options["processors"], where)
    expressions = {name: text for name, text in known.expressions if name not in numbers}
    for name, value in numbers.items():
        number = _number(name, value, where)
        if number is None:
            expressions[name] = str(value).strip()
        elif name == _MEMORY:
            known = replace(known, memory_bytes=int(number * _GB))
        else:
            known = replace(known, **{name: int(number)})  # type: ignore[arg-type]
    others = dict(known.others) | {name: _text(options[name]) for name in _TEXTS if options.get(name) is not None}
    return replace(known, expressions=tuple(expressions.items()), others=tuple(others.items()))


def _units_of_processors(processors: object, where: str) -> dict[str, object]:
    """Return the numbers of cores and graphics processors in the list form of ``processors``."""
    if not isinstance(processors, (list, tuple)) or not all(isinstance(each, Mapping) for each in processors):
        raise TaskDeclarationError(
            f"{where}: processors={processors!r} is not a list of dictionaries, such as "
            "[{'processorType': 'CPU', 'computingUnits': '2'}]."
        )
    terms: dict[str, list[str]] = {}
    for each in processors:
        plain = {str(key).lower().replace("_", ""): value for key, value in each.items()}
        kind = _UNITS if str(plain.get("processortype", "CPU")).upper() == "CPU" else _GPUS
        terms.setdefault(kind, []).append(str(plain.get("computingunits", 1)))
    return {
        kind: found[0] if len(found) == 1 else " + ".join(f"({each})" for each in found)
        for kind, found in terms.items()
    }


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _number(name: str, value: object, where: str) -> float | None:
    """Return a constraint's number; None if it is known at a call only. Raises TaskDeclarationError."""
    if isinstance(value, str) and not _is_number(value):
        text = value.strip()
        if "$" in text and _is_number(os.path.expandvars(text)):
            _checked(name, float(os.path.expandvars(text)), f"{where}: {name}={value!r}", TaskDeclarationError)
        elif "$" not in text:
            try:
                compile(text, name, "eval")
            except (SyntaxError, ValueError):
                raise TaskDeclarationError(f"{where}: {name}={value!r} is {_expected(name)}.") from None
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TaskDeclarationError(f"{where}: {name}={value!r} is {_expected(name)}.")
    return _checked(name, float(value), f"{where}: {name}={value!r}", TaskDeclarationError)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _expected(name: str) -> str:
    if name == _MEMORY:
        return "not an amount of memory in GB, such as 0.5, nor a name or an expression that gives one"
    return "not a whole number, such as 2, nor a name or an expression that gives one"


def _checked(name: str, number: float, where: str, error: type[ArgumentError] | type[TaskDeclarationError]) -> float:
    least = 0.0 if name != _MEMORY else math.ulp(0.0)
    if not math.isfinite(number) or number < least or name != _MEMORY and number != int(number):
        raise error(f"{where} is {_expected(name)}.")
    return number


def units_of(call: TaskCall) -> int:
    """Return the processor cores that a call needs; 0 for a task of `@IO`, which leaves them to others.

    Raises
    ------
    ArgumentError
        If an expression in `@constraint` gives no number for the arguments of the call. Also of `memory_of`, `gpus_of`.
    """
    return units_for(call.task, call.args, call.kwargs)


def memory_of(call: TaskCall) -> int | None:
    """Return the bytes of memory that a call needs; None if its task does not say."""
    number = _at_call(call.task, _MEMORY, call.args, call.kwargs)
    return call.task.constraints.memory_bytes if number is None else int(number * _GB)


def gpus_of(call: TaskCall) -> int:
    """Return the graphics processors that a call needs."""
    number = _at_call(call.task, _GPUS, call.args, call.kwargs)
    return call.task.constraints.gpus if number is None else int(number)


def units_for(task: TaskFunction, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Return the processor cores that a call of a task with these arguments needs."""
    number = _at_call(task, _UNITS, args, kwargs)
    return task.constraints.computing_units if number is None else int(number)


def _at_call(task: TaskFunction, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float | None:
    """Evaluate the expression of a constraint; None if there is none, or its environment variable is not set."""
    text = dict(task.constraints.expressions).get(name)
    if text is None:
        return None
    where = f"call of {task.place}: {name}={text!r} in @constraint"
    text = os.path.expandvars(text)
    if "$" in text or not text.strip():
        return None
    if _is_number(text):
        return _checked(name, float(text), f"{where} gives {text}, which", ArgumentError)
    bound = task.signature.signature.bind_partial(*args, **kwargs)
    bound.apply_defaults()
    try:
        value = eval(text, getattr(task.function, "__globals__", {}), dict(bound.arguments))
        number = math.nan if isinstance(value, bool) else float(value)
    except Exception as error:
        raise ArgumentError(
            f"{where} cannot be used for this call ({type(error).__name__}: {error}). Write a number, a "
            "variable such as ${UNITS}, or an expression over globals and arguments that are not futures."
        ) from error
    return _checked(name, number, f"{where} gives {value!r}, which", ArgumentError)
