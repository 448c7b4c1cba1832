"""Failures of targets, as they are reported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runmem.pipe_base.struct import Struct

__all__ = ["TargetFailure", "exit_code", "failed_result"]

_MOST_EXIT_CODE = 255


@dataclass(frozen=True)
class TargetFailure:
    """A target that failed: which, why, and where.

    Attributes
    ----------
    target : str
        The data id, as it is written in messages.
    error : str
        Type and message.
    node : str or None
        None if it ran in the program's own process.
    pid : int or None
        The process that ran it.
    """

    target: str
    error: str
    node: str | None = None
    pid: int | None = None

    def __str__(self) -> str:
        where = "" if self.node is None else f" (node {self.node}" + (f", process {self.pid})" if self.pid else ")")
        return f"{self.target}: {self.error}{where}"


def exit_code(results: Iterable[object]) -> int:
    """Return the exit code of a program with these results: the number of failed targets, at most 255."""
    return min(sum(bool(getattr(result, "exitStatus", 0)) for result in results), _MOST_EXIT_CODE)


def failed_result(target: object, with_all: bool) -> Struct:
    """Return the result of a target that could not return one; `with_all`: see ``doReturnResults``."""
    if with_all:
        ref = target[0] if isinstance(target, tuple) and target else target
        return Struct(exitStatus=1, dataRef=ref, metadata=None, result=None)
    return Struct(exitStatus=1)
