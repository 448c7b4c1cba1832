"""Reductions: one call over a collection becomes a tree of calls, each over a chunk of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

from runmem.errors import TaskDeclarationError
from runmem.graph.directions import Parameter
from runmem.graph.signature import TaskSignature

__all__ = ["DEFAULT_CHUNK_SIZE", "chunk_size_in", "collection_of", "reduce_in_chunks"]

DEFAULT_CHUNK_SIZE = 2


def chunk_size_in(options: Mapping[str, object], where: str) -> int | None:
    """Return the chunk size of a reduction; None for another task.

    Parameters
    ----------
    options : mapping
        Of `@task`: ``is_reduce``, and ``chunk_size`` as a number, its text, or ``"${VARIABLE}"`` of the environment.

    Raises
    ------
    TaskDeclarationError
        If the chunk size is not a whole number of 2 or more.
    """
    is_reduce, value = options.get("is_reduce"), options.get("chunk_size")
    if not is_reduce or isinstance(is_reduce, Parameter):
        return None
    if value is None or isinstance(value, Parameter) or str(value).strip() in ("", "0"):
        return DEFAULT_CHUNK_SIZE
    text = str(value).strip()
    if variable := re.fullmatch(r"\$(\w+)|\$\{(\w+)\}", text):
        text = os.environ.get(variable[1] or variable[2], "")
    if not text.isdecimal() or int(text) < 2:
        raise TaskDeclarationError(f"{where}: chunk_size={value!r} is not a whole number of 2 or more.")
    return int(text)


def collection_of(signature: TaskSignature) -> str | None:
    """Return the name of the parameter to reduce: the first collection of objects that the task reads."""
    for name in signature.signature.parameters:
        use = signature.use_of(name)
        if use.depth == 1 and not use.is_path and not use.direction.writes:
            return name
    return None


def reduce_in_chunks(call: Callable[[list[object]], object], values: list[object], chunk_size: int) -> object:
    """Return the result of a tree of calls, each over `chunk_size` values or results of other calls.

    Values keep their order, so that an associative function gives the result of one call over all of them.
    """
    while len(values) > chunk_size:
        chunks = [values[start : start + chunk_size] for start in range(0, len(values), chunk_size)]
        values = [chunk[0] if len(chunk) == 1 else call(chunk) for chunk in chunks]
    return call(values)
