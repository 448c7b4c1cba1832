"""What is told of a target that failed."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TargetFailure"]


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
