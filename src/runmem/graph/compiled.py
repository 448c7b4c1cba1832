"""Compiles the functions of tasks with numba (`@task(numba=...)`), in the process that runs the task."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from types import FunctionType
from typing import Any, NamedTuple

from runmem.errors import TaskDeclarationError

__all__ = ["OPTIONS", "Compilation", "requested"]

OPTIONS = {"numba", "numba_flags", "numba_signature", "numba_declaration"}


class _Mode(NamedTuple):
    """A value of ``numba=``.

    Attributes
    ----------
    make : callable
        Compiles a function, given numba itself and the `Compilation`.
    same : bool
        Whether the function gives the same result without numba, only slower.
    needs : tuple of str
        Options without which it cannot be used.
    """

    make: Callable[[Any, Compilation, Any], Callable[..., Any]]
    same: bool
    needs: tuple[str, ...] = ()


class Compilation(NamedTuple):
    """The compilation that `@task` requests for one task.

    Attributes
    ----------
    mode : str
        Name of one of numba's decorators.
    flags : dict
        Its keywords.
    signature : str, list of str, or None
    declaration : str
        Shapes of what a ``guvectorize`` function takes and gives.
    """

    mode: str
    flags: dict[str, Any]
    signature: Any
    declaration: str

    @property
    def outputs(self) -> int:
        """Number of the last parameters that are outputs, which a call may omit."""
        return len(re.findall(r"\(", self.declaration.partition("->")[2])) if self.mode == "guvectorize" else 0

    @property
    def gives_the_same(self) -> bool:
        """Whether the function gives the same result without numba, only slower."""
        return _MODES[self.mode].same

    def made_of(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the compiled function; numba must be installed."""
        import numba  # an optional dependency, and slow to load: only where a task runs

        call = _MODES[self.mode].make(numba, self, function)
        return call if self.mode in _KEEPING_NAMES else _by_position(call, inspect.signature(function), self.outputs)


def requested(function: Any, options: dict[str, Any], where: str) -> tuple[Compilation | None, str | None]:
    """Return the compilation that the options of `@task` request, and a remark for the user; None for none.

    Raises
    ------
    TaskDeclarationError
        For an unknown value, options that contradict each other, a function that numba cannot compile, and, if the
        function gives another result without numba, where numba is not installed.
    """
    compilation = read(options, where)
    given = sorted(name for name in OPTIONS - {"numba"} if options.get(name))
    if compilation is None:
        return None, f"{', '.join(given)}: no effect without numba=" if given else None
    mode = _MODES[compilation.mode]
    missing = [name for name in mode.needs if not options.get(name)]
    if missing:
        raise TaskDeclarationError(f"{where}: numba={compilation.mode!r} needs {' and '.join(missing)} too.")
    _check_function(function, where)
    if not _is_installed():
        if not mode.same:
            raise TaskDeclarationError(
                f"{where}: numba={compilation.mode!r} makes another function of it, and numba is not installed here: "
                "install it (runmem's extra `numba`)."
            )
        return compilation, (
            f"numba={options['numba']!r}: numba is not installed here, so the function runs as it is, uncompiled; "
            "install it (runmem's extra `numba`)"
        )
    if compilation.mode == "generated_jit":
        _check_generated_jit(where)
    return compilation, None


def read(options: dict[str, Any], where: str) -> Compilation | None:
    """Return the compilation that the options of `@task` request, or None; TaskDeclarationError for an unknown one."""
    asked: Any = options.get("numba")
    flags = options.get("numba_flags") or {}
    if not isinstance(flags, dict):
        raise TaskDeclarationError(f"{where}: numba_flags={flags!r} is not a dictionary of numba's keywords.")
    if asked is None or asked is False:
        return None
    if isinstance(asked, dict):
        flags = {**asked, **flags}
        asked = "jit"
    mode = "jit" if asked is True else asked
    if not isinstance(mode, str) or mode not in _MODES:
        names = ", ".join(repr(name) for name in _MODES)
        raise TaskDeclarationError(
            f"{where}: numba={asked!r}; write True, False, a dictionary of keywords of jit, or one of {names}."
        )
    signature, declaration = options.get("numba_signature"), options.get("numba_declaration")
    return Compilation(mode, flags, signature, declaration or "")


def _is_installed() -> bool:
    try:
        return find_spec("numba") is not None
    except (ModuleNotFoundError, ValueError):  # kept away from the program
        return False


def _check_function(function: Any, where: str) -> None:
    if not isinstance(function, FunctionType) or hasattr(function, "__wrapped__"):
        raise TaskDeclarationError(
            f"{where}: numba= compiles a function as it was written, and {function!r} is another object: put @task "
            "directly above `def`, without a decorator in between."
        )
    if inspect.iscoroutinefunction(function):
        raise TaskDeclarationError(f"{where}: numba= cannot compile an `async def`; write a plain function.")


def _check_generated_jit(where: str) -> None:
    import numba

    if not hasattr(numba, "generated_jit"):
        raise TaskDeclarationError(
            f"{where}: numba {numba.__version__} has no generated_jit any more; use numba='jit', with "
            "numba.extending.overload where the types of the arguments decide."
        )


def _by_position(call: Callable[..., Any], signature: inspect.Signature, outputs: int) -> Callable[..., Any]:
    """Wrap `call`, which takes positional arguments only, so that it takes arguments like the original."""
    named = [name for name in signature.parameters][len(signature.parameters) - outputs :]

    def by_position(*args: Any, **kwargs: Any) -> Any:
        if not kwargs and len(args) == len(signature.parameters):
            return call(*args)
        bound = signature.bind_partial(*args, **kwargs)
        left_out = [name for name in named if name not in bound.arguments]
        bound.apply_defaults()
        return call(*(value for name, value in bound.arguments.items() if name not in left_out))

    return by_position


def _as_list(signature: Any) -> list[Any]:
    return [signature] if isinstance(signature, str) or not isinstance(signature, (list, tuple)) else list(signature)


def _jit(numba: Any, asked: Compilation, function: Any) -> Callable[..., Any]:
    given = () if asked.signature is None else (asked.signature,)
    made: Callable[..., Any] = getattr(numba, asked.mode)(*given, **asked.flags)(function)
    return made


def _vectorize(numba: Any, asked: Compilation, function: Any) -> Callable[..., Any]:
    given = () if asked.signature is None else (_as_list(asked.signature),)
    made: Callable[..., Any] = numba.vectorize(*given, **asked.flags)(function)
    return made


def _guvectorize(numba: Any, asked: Compilation, function: Any) -> Callable[..., Any]:
    made = numba.guvectorize(_as_list(asked.signature), asked.declaration, **asked.flags)(function)
    return lambda *args: made(*args)


def _cfunc(numba: Any, asked: Compilation, function: Any) -> Callable[..., Any]:
    (signature,) = _as_list(asked.signature)
    made: Callable[..., Any] = numba.cfunc(signature, **asked.flags)(function).ctypes
    return made


def _stencil(numba: Any, asked: Compilation, function: Any) -> Callable[..., Any]:
    flags = dict(asked.flags)
    kernel = numba.stencil(flags.pop("mode", "constant"), **flags)(function)
    # Called from outside of compiled code, numba compiles it again at each call.
    names = ", ".join(_names_for(function))
    scope = {"kernel": kernel}
    exec(f"def call({names}):\n    return kernel({names})\n", scope)
    made: Callable[..., Any] = numba.njit(scope["call"])
    return made


def _names_for(function: Any) -> Iterator[str]:
    return (f"value_{number}" for number in range(len(inspect.signature(function).parameters)))


_KEEPING_NAMES = {"jit", "njit", "generated_jit"}
_MODES = {
    "jit": _Mode(_jit, same=True),
    "njit": _Mode(_jit, same=True),
    "generated_jit": _Mode(_jit, same=False),
    "vectorize": _Mode(_vectorize, same=False),
    "guvectorize": _Mode(_guvectorize, same=False, needs=("numba_signature", "numba_declaration")),
    "stencil": _Mode(_stencil, same=False),
    "cfunc": _Mode(_cfunc, same=False, needs=("numba_signature",)),
}
