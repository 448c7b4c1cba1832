"""Values of a configuration as text, and back: Python literals, and the numbers that have none (``float('inf')``)."""

from __future__ import annotations

import ast
import cmath
import math
import numbers
from typing import Any

from runmem.pipe_base.errors import ConfigError

__all__ = ["text_of_value", "value_of_text"]

_MADE_BY_CALL = {"float": float, "complex": complex}


def text_of_value(value: object) -> str:
    """Return the text of a value, which `value_of_text` reads: also of numbers of numpy, and inside lists."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{text_of_value(key)}: {text_of_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(text_of_value, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(text_of_value, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, str):
        return str.__repr__(value)
    return _text_of_number(value) if isinstance(value, numbers.Number) else repr(value)


def _text_of_number(value: Any) -> str:
    if isinstance(value, bool):
        return repr(value)
    if isinstance(value, numbers.Integral):
        return repr(int(value))
    if isinstance(value, numbers.Real):
        return repr(float(value)) if math.isfinite(value) else f"float('{float(value)}')"
    found = complex(value)
    return repr(found) if cmath.isfinite(found) else f"complex('{str(found).strip('()')}')"


def value_of_text(text: str) -> Any:
    """Return the value of a text, which is read and never run.

    Raises
    ------
    ConfigError
        If it is not the text of a Python value.
    """
    try:
        tree = _WithNumbers().visit(ast.parse(text.strip(), mode="eval"))
        return ast.literal_eval(tree)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{text.strip()!r} is not the text of a Python value: {error}") from None


class _WithNumbers(ast.NodeTransformer):
    """Puts the numbers in place of ``float('inf')`` and the like."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node:
            case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(text))], keywords=[]) if (
                name in _MADE_BY_CALL
            ):
                return ast.copy_location(ast.Constant(_MADE_BY_CALL[name](text)), node)
        return node
