"""`@software`: decorators that a JSON file declares."""

from __future__ import annotations

import functools
import json
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from runmem.commands import decorators, needs
from runmem.errors import TaskDeclarationError, TaskWarning
from runmem.graph.task import TaskFunction, task

__all__ = ["software"]

_EXECUTIONS: dict[str, Callable[..., Any]] = {
    "binary": decorators.binary,
    "mpi": decorators.mpi,
    "mpmd_mpi": decorators.mpmd_mpi,
    "multinode": decorators.multinode,
    "http": decorators.http,
    "compss": decorators.compss,
    "container": decorators.container,
    "julia": decorators.julia,
    "ompss": decorators.ompss,
}


_KEYS = ("execution", "properties", "type", "parameters", "container", "prolog", "epilog", "constraints")


def software(config_file: str | os.PathLike[str]) -> Callable[[Any], Any]:
    """Decorate a function, or a task, as a JSON file says: as a command, with steps around it, with constraints.

    A file that cannot be read is an error when the function is called.

    Raises
    ------
    TaskDeclarationError
        For a file that says something which cannot be.
    """

    def decorate(function: Any) -> Any:
        try:
            with open(config_file, encoding="utf-8") as file:
                config = json.load(file)
        except (OSError, ValueError) as error:
            return _refusal(function, f"@software: {os.fspath(config_file)} cannot be read ({error}).")
        if not isinstance(config, dict):
            raise TaskDeclarationError(f"@software: {os.fspath(config_file)} does not hold a JSON object.")
        return _decorated(function, config, os.fspath(config_file))

    return decorate


def _refusal(function: Any, text: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def refuse(*args: object, **kwargs: object) -> object:
        raise TaskDeclarationError(text)

    return refuse


def _decorated(function: Any, config: Mapping[str, Any], path: str) -> Any:
    if unknown := [name for name in config if name not in _KEYS]:
        warnings.warn(f"@software: {path}: no effect: {', '.join(unknown)}", TaskWarning, stacklevel=3)
    execution = dict(config.get("execution") or config.get("properties") or {})
    kind = str(execution.pop("type", config.get("type", "task"))).lower()
    if kind == "workflow":
        return function
    if kind != "task" and kind not in _EXECUTIONS:
        raise TaskDeclarationError(
            f"@software: {path} has the type {kind!r}: one of task, workflow, {', '.join(_EXECUTIONS)}."
        )
    if not isinstance(function, TaskFunction):
        parameters = config.get("parameters") or {}
        function = task(**{name: _lower_keys(value) for name, value in parameters.items()})(function)
    if kind != "task":
        function = _EXECUTIONS[kind](**execution)(function)
    for name, decorator in (
        ("container", decorators.container), ("prolog", decorators.prolog), ("epilog", decorators.epilog),
        ("constraints", needs.constraint),
    ):  # fmt: skip
        if config.get(name):
            function = decorator(**config[name])(function)
    return function


def _lower_keys(value: object) -> object:
    """Return the dictionary form of a parameter with keys as `@task` knows them."""
    return {str(key).lower(): each for key, each in value.items()} if isinstance(value, dict) else value
