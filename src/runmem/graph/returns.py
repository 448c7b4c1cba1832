"""How many values a task returns: from `returns=`, the type hint, or the `return` statements."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

from runmem.errors import ArgumentError, TaskDeclarationError
from runmem.graph.directions import KEYS, Parameter

__all__ = ["Returns", "declared_returns", "returns_of_call"]


_MOST_LAYERS = 10  # text within text, aliases of aliases
_EXPRESSION = re.compile(r"value_of\((.+)\)|\{\{(.+)\}\}", re.DOTALL)


class Returns(typing.NamedTuple):
    """Number of returned values.

    Attributes
    ----------
    classes : tuple
        Of the first values, where classes of the user's were declared: the class of each, or None.
    expression : str
        Gives the number of values from the arguments of a call; else empty.
    """

    count: int  # type: ignore[assignment]  # tuple.count is of no use here
    classes: tuple[type | None, ...] = ()
    expression: str = ""


def declared_returns(function: Callable[..., Any], declared: Any, where: str) -> Returns:
    """Return the declared number of returned values.

    Parameters
    ----------
    declared
        An int, a type, a tuple or list of types, a string (a number, the name of a global, a type's name, or an
        expression over the parameters: ``"value_of(self.n)"``, ``"{{n}}"``), a direction (one value), or None when
        `returns=` is absent.

    Raises
    ------
    TaskDeclarationError
        For a value that is none of these.
    """
    if declared is None:
        return _inferred(function)
    if isinstance(declared, str):
        expression = _expression_in(function, declared.strip(), where)
        if expression:
            return Returns(1, expression=expression)
        declared = _from_text(function, declared, where)
    if isinstance(declared, bool) or declared is None:
        raise TaskDeclarationError(f"{where}: returns={declared!r} is neither a number nor a type.")
    if isinstance(declared, int):
        if declared < 0:
            raise TaskDeclarationError(f"{where}: returns={declared} is negative.")
        return Returns(declared)
    if isinstance(declared, (tuple, list)):
        return _each(declared)
    if isinstance(declared, Parameter) or isinstance(declared, dict) and set(declared) <= set(KEYS.values()):
        return Returns(1)
    if isinstance(declared, type) or typing.get_origin(declared) is not None or callable(declared):
        return _one(declared)
    raise TaskDeclarationError(
        f"{where}: returns={declared!r} is neither a number nor a type, a list of types or a name."
    )


def returns_of_call(
    function: Callable[..., Any], declared: Returns, signature: inspect.Signature, args: Any, kwargs: Any, where: str
) -> Returns:
    """Evaluate the number of returned values of one call, if an expression over its arguments gives it.

    Raises
    ------
    ArgumentError
        If the expression cannot be evaluated, or gives neither a number nor a type.
    """
    if not declared.expression:
        return declared
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    try:
        value = eval(declared.expression, getattr(function, "__globals__", {}), dict(bound.arguments))
        if value is None:
            raise ValueError("it is None")
        return declared_returns(function, value, where)
    except Exception as error:
        raise ArgumentError(
            f"{where}: returns={declared.expression!r} cannot be used for this call ({type(error).__name__}: {error}). "
            "It is evaluated with the arguments, and gives a number or a type; an argument in it must be a value, and "
            "no future."
        ) from error


def _expression_in(function: Callable[..., Any], text: str, where: str) -> str:
    """Return the expression to evaluate at each call; empty for a text that is a number or a known name."""
    if text.isidentifier() and not _is_known(function, text):
        return text  # a global that is defined below the task
    found = _EXPRESSION.fullmatch(text)
    if found is None:
        return ""
    expression: str = (found[1] or found[2]).strip()
    try:
        compile(expression, "returns=", "eval")
    except SyntaxError as error:
        raise TaskDeclarationError(
            f"{where}: returns= holds {expression!r}, which is not an expression: {error}."
        ) from None
    return expression


def _from_text(function: Callable[..., Any], text: str, where: str) -> Any:
    text = text.strip()
    if text.isdecimal():
        return int(text)
    if not _is_known(function, text):
        raise TaskDeclarationError(f"{where}: returns={text!r} is neither a number nor the name of a global.")
    return getattr(function, "__globals__", {}).get(text, getattr(builtins, text, None))


def _is_known(function: Callable[..., Any], name: str) -> bool:
    return name in getattr(function, "__globals__", {}) or hasattr(builtins, name)


def _one(declared: object) -> Returns:
    return _each((declared,))


def _each(declared: Sequence[object]) -> Returns:
    """Return as many values as there are types, with the classes of the user's among them."""
    classes = [_class_of(each) for each in declared]
    while classes and classes[-1] is None:
        classes.pop()
    return Returns(len(declared), tuple(classes))


def _class_of(declared: object) -> type | None:
    """Return a class of the user's, whose task methods can be called on the future; built-in types have none."""
    return declared if isinstance(declared, type) and declared.__module__ != "builtins" else None


def _inferred(function: Callable[..., Any]) -> Returns:
    function = _below_profile(function)
    if inspect.iscoroutinefunction(function):
        return _one_awaited(function)
    hint = _return_hint(function)
    if hint is None or hint is type(None):
        return Returns(1 if hasattr(function, "__wrapped__") else 0)
    if hint is not inspect.Parameter.empty:
        return _in_hint(hint)
    return Returns(_count_in_source(function))


def _one_awaited(function: Callable[..., Any]) -> Returns:
    """Return one value for an ``async`` function: plain Python gives one awaitable."""
    hint = _return_hint(function)
    return Returns(1) if isinstance(hint, str) or hint is inspect.Parameter.empty else _one(hint)


def _in_hint(hint: Any) -> Returns:
    """Return the number of values in a hint: one for each entry of a tuple, or of a literal tuple or list."""
    if isinstance(hint, str):
        return Returns(_count_in_text(hint))
    if isinstance(hint, (tuple, list)):
        return _each(hint)
    parts = typing.get_args(hint)
    known = typing.get_origin(hint) is tuple and parts and not any(_is_open(part) for part in parts)
    return _each(parts) if known else _one(hint)


def _is_open(part: Any) -> bool:
    """Return True if an entry of a tuple's hint stands for any number of values: ``...``, ``*tuple[int, ...]``."""
    return part is Ellipsis or getattr(part, "__unpacked__", False) or typing.get_origin(part) is typing.Unpack


def _count_in_text(hint: str) -> int:
    """Return the number of values in a hint whose names are unknown here (imported for type checkers only, say)."""
    try:
        node: ast.expr = ast.parse(hint.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return 1
    if isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] in ("tuple", "Tuple"):
        node = node.slice if isinstance(node.slice, ast.Tuple) else ast.Tuple([node.slice], ast.Load())
    if not isinstance(node, (ast.Tuple, ast.List)):
        return 1
    opens = any(
        isinstance(part, ast.Starred) or isinstance(part, ast.Constant) and part.value is Ellipsis for part in node.elts
    )
    return 1 if opens else len(node.elts)


def _below_profile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function below `@profile`, which returns the same; other wrappers may change the result."""
    while hasattr(function, "__wrapped__") and _module_of(function) == "runmem.memory.profile":
        function = function.__wrapped__
    return function


def _module_of(function: Any) -> str | None:
    name: str | None = getattr(function, "__globals__", {}).get("__name__")
    return name


def _return_hint(function: Callable[..., Any]) -> Any:
    """Return the hint of the returned value, also of a module that keeps its hints as text; empty without one.

    As text where a name in it is not known.
    """
    hint = getattr(function, "__annotations__", {}).get("return", inspect.Parameter.empty)
    names = getattr(inspect.unwrap(function), "__globals__", {})
    for _ in range(_MOST_LAYERS):
        if isinstance(hint, str):
            try:
                hint = eval(hint, names)
            except Exception:  # a name that is imported for type checkers only, say
                return hint
        elif typing.get_origin(hint) is typing.Annotated:
            hint = typing.get_args(hint)[0]
        elif type(hint).__name__ == "TypeAliasType":  # from Python 3.12 on
            hint = hint.__value__
        else:
            break
    return hint


def _count_in_source(function: Callable[..., Any]) -> int:
    """Return 0 without a `return` that has a value, n where each gives a tuple of n, else 1."""
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType) or function.__name__ == "<lambda>" or hasattr(function, "__wrapped__"):
        return 1  # a wrapper may return something else than the function that it wraps
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return 1
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, SyntaxError, TypeError):
        return 1
    body = next((node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))), None)
    if body is None:
        return 1
    values = [node.value for node in _own_returns(body) if not _is_none(node.value)]
    if not values:
        return 0
    if len(values) < len(_own_returns(body)):
        return 1  # sometimes None: the program must be able to see that
    sizes = {len(value.elts) if isinstance(value, ast.Tuple) else 1 for value in values}
    starred = any(isinstance(item, ast.Starred) for v in values if isinstance(v, ast.Tuple) for item in v.elts)
    return sizes.pop() if len(sizes) == 1 and not starred else 1


def _is_none(value: ast.expr | None) -> bool:
    return value is None or isinstance(value, ast.Constant) and value.value is None


def _own_returns(body: ast.AST) -> list[ast.Return]:
    """Return the `return` statements of a function, without those of functions defined inside it."""
    found, waiting = [], list(ast.iter_child_nodes(body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Return):
            found.append(node)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            waiting.extend(ast.iter_child_nodes(node))
    return found
