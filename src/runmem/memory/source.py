"""Where a function's code stands in its file, and the text of its lines."""

from __future__ import annotations

import inspect
import linecache
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

__all__ = ["SourceBlock", "nested_codes", "source_block"]


@dataclass(frozen=True, slots=True)
class SourceBlock:
    """The lines of a function, from its first decorator on.

    Attributes
    ----------
    file : str
        As the code names it; ``<stdin>`` and the like where there is no file.
    first_line : int
    texts : tuple of str
        One line each, without the newline; empty strings where the text cannot be found.
    """

    file: str
    first_line: int
    texts: tuple[str, ...]


def nested_codes(code: CodeType) -> Iterator[CodeType]:
    """Yield `code` and the codes of all functions, lambdas, comprehensions and classes defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested_codes(constant)


def source_block(code: CodeType, module_globals: dict[str, Any] | None = None) -> SourceBlock:
    """Return the lines of the function with `code`.

    Parameters
    ----------
    code : CodeType
    module_globals : dict, optional
        The function's globals, for modules that are read from an archive.
    """
    file = code.co_filename
    linecache.checkcache(file)
    lines = linecache.getlines(file, module_globals)
    first = code.co_firstlineno
    try:
        length = len(inspect.getblock(lines[first - 1 :])) if len(lines) >= first else 0
    except (tokenize.TokenError, SyntaxError, IndentationError, StopIteration):
        length = 0
    executable = [line for nested in nested_codes(code) for _, _, line in nested.co_lines() if line]
    last = max([first, first + length - 1, *executable])
    texts = [lines[number - 1].rstrip("\r\n") if number <= len(lines) else "" for number in range(first, last + 1)]
    return SourceBlock(file, first, tuple(texts))
