"""The source lines of a function."""

from __future__ import annotations

import inspect
import linecache
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType

__all__ = ["SourceBlock", "nested_codes", "source_block"]


@dataclass(frozen=True, slots=True)
class SourceBlock:
    """The lines of a function, from its first decorator on.

    Attributes
    ----------
    file : str
        The code's file name; ``<stdin>`` and the like without a file.
    first_line : int
    texts : tuple of str
        One for each line, without the newline; empty if it cannot be found.
    """

    file: str
    first_line: int
    texts: tuple[str, ...]


def nested_codes(code: CodeType) -> Iterator[CodeType]:
    """Yield `code` and the codes of all functions, lambdas, comprehensions and classes inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested_codes(constant)


def source_block(code: CodeType, module_globals: dict[str, object] | None = None) -> SourceBlock:
    """Return the lines of the function with `code`.

    Parameters
    ----------
    code : CodeType
    module_globals : dict, optional
        The function's globals, for modules in an archive.
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
