"""The options of `@task` besides ``returns`` and the directions of parameters."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from runmem.errors import TaskDeclarationError
from runmem.graph import compiled
from runmem.graph.directions import Parameter
from runmem.units import parse_bytes

__all__ = [
    "in_snake_case", "directions_in", "memory_size", "nearest_name", "time_limit", "unknown_options", "without_effect",
]  # fmt: skip

_CAMEL = {
    "targetDirection": "target_direction", "varargsType": "varargs_type", "isReplicated": "is_replicated",
    "isDistributed": "is_distributed", "timeOut": "time_out", "computingNodes": "computing_nodes",
    "processesPerNode": "processes_per_node", "isReduce": "is_reduce", "chunkSize": "chunk_size",
    "onFailure": "on_failure", "onMemory": "on_memory", "cacheReturns": "cache_returns", "numbaFlags": "numba_flags",
    "numbaSignature": "numba_signature", "numbaDeclaration": "numba_declaration", "tracingHook": "tracing_hook",
}  # fmt: skip


class _Ignored(NamedTuple):
    """An option that is taken and has no effect.

    Attributes
    ----------
    matters : callable
        Whether a value asks for something.
    instead : str
        What happens instead.
    """

    matters: Callable[[Any], bool]
    instead: str


_LONGEST_S = 10 * 365 * 86400.0


def _more_than_one(value: Any) -> bool:
    return str(value).strip() not in ("1", "None", "")


# Options whose names parameters may have too. The last ones say in which order, where or how fast tasks run: without
# them the result is the same.
_HINTS = {
    "memory",
    "time_out",
    "on_failure",
    "on_memory",
    "defaults",
    "priority",
    "is_distributed",
    "cache_returns",
    "tracing_hook",
}
_IGNORED = {
    "is_replicated": _Ignored(bool, "a call runs once, on one worker, and not on every node"),
    "computing_nodes": _Ignored(_more_than_one, "a call runs in one process on one node"),
    "processes_per_node": _Ignored(_more_than_one, "a call runs in one process on one node"),
}
# Those of reductions are read by `runmem.graph.reduction`; without is_reduce the chunk size means nothing.
_LEAST_BYTES = 1024**2  # of `memory=` without a unit: less is a number of MiB or GiB
_REDUCTION = {"is_reduce", "chunk_size"}
_VALUED = _HINTS | _IGNORED.keys() | _REDUCTION
_OTHERS = {"returns", "target_direction", "varargs_type"} | compiled.OPTIONS


def in_snake_case(options: dict[str, Any]) -> dict[str, Any]:
    """Return options under one spelling each: PyCOMPSs takes ``onFailure`` for ``on_failure``."""
    return {_CAMEL.get(name, name): value for name, value in options.items()}


def directions_in(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that say what a task does with a parameter; it may be called as an option is (`priority`)."""
    return {
        name: value
        for name, value in options.items()
        if not name.startswith("@") and name not in _OTHERS and (isinstance(value, Parameter) or name not in _VALUED)
    }


def unknown_options(options: Mapping[str, object], function: Callable[..., object]) -> dict[str, str]:
    """Return the names in `@task` that are neither options nor parameters of the function, each with a remark."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return {}
    unknown = [name for name in directions_in(dict(options)) if name not in parameters]
    return {
        name: f"{name}={options[name]!r} is ignored: it is neither an option of @task nor a parameter; "
        + nearest_name(name, parameters)
        for name in unknown
    }


def nearest_name(name: str, parameters: Iterable[str]) -> str:
    """Return a hint for a name that `@task` does not know."""
    known = [*parameters, *_OTHERS, *_VALUED]
    lower = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), lower, 1)
    return f"did you mean {lower[close[0]]}?" if close else f"the parameters are {', '.join(parameters) or 'none'}"


def time_limit(options: dict[str, Any], where: str) -> float | None:
    """Return the time limit of a call in seconds; 0: no limit; None: not declared.

    Raises
    ------
    TaskDeclarationError
        For a value that is no such number.
    """
    value = options.get("time_out")
    if value is None or isinstance(value, Parameter):
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds <= _LONGEST_S:
        raise TaskDeclarationError(f"{where}: time_out={value!r} is not a number of seconds, such as 60 (0: no limit).")
    return seconds


def memory_size(options: dict[str, Any], where: str) -> int | None:
    """Return the memory that a call is expected to need, in bytes; None: not declared.

    Raises
    ------
    TaskDeclarationError
        For a value that is no amount of memory.
    """
    value = options.get("memory")
    if value is None or isinstance(value, Parameter):
        return None
    try:
        size = 0 if isinstance(value, bool) or not isinstance(value, (int, str)) else parse_bytes(value)
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise TaskDeclarationError(
            f'{where}: memory={value!r} is not an amount of memory, such as "2GiB", "500MB" or a number of bytes.'
        )
    if size < _LEAST_BYTES and str(value).strip().isdecimal():
        raise TaskDeclarationError(f'{where}: memory={value!r} means {size} bytes: write a unit, such as "{value}GiB".')
    return size


def without_effect(options: dict[str, Any]) -> list[str]:
    """Return a remark for each option that has no effect here."""
    remarks = [
        f"{name}={options[name]!r} has no effect in runmem yet: {ignored.instead}"
        for name, ignored in _IGNORED.items()
        if name in options and not isinstance(options[name], Parameter) and ignored.matters(options[name])
    ]
    chunk_size = options.get("chunk_size")
    if not options.get("is_reduce") and not isinstance(chunk_size, Parameter) and _more_than_one(chunk_size):
        remarks.append(f"chunk_size={chunk_size!r} has no effect without is_reduce=True")
    return remarks
