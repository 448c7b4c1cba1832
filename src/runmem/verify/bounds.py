"""Whether a measured value is exact, or a lower or an upper bound, by the notes of its measurement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["LOWER", "NONE", "bound_of", "doubt_of"]

_UPPER = ("shared", "contaminated", "with memory of")  # words in the notes on the method and on whose peak it is
LOWER, NONE = "lower", "none"
"""Values of the note ``bound``: an execution that was sampled, or without a value, may have had more; no bound."""

_MEANINGS = {
    ">=": "the value is a lower bound, so the true one may be higher",
    "<=": "the value is an upper bound, so the true one may be lower",
    "~": "the value is neither a lower nor an upper bound",
}
_MAY_FAIL = {"<": (">=", "~"), "<=": (">=", "~"), ">": ("<=", "~"), ">=": ("<=", "~")}
_MAY_PASS = {"<": ("<=", "~"), "<=": ("<=", "~"), ">": (">=", "~"), ">=": (">=", "~")}


def bound_of(notes: Mapping[str, Any]) -> str:
    """Return ``>=`` for a lower bound, ``<=`` for an upper one, ``~`` for neither, and nothing for an exact value.

    The total of a trace is a lower bound of the node's peak, but no bound of the peak of a task.
    """
    method = str(notes.get("method", ""))
    is_lower = "sampled" in method or notes.get("bound") == LOWER
    is_upper = any(word in f"{method} {notes.get('peak', '')}" for word in _UPPER)
    is_upper = is_upper or "rss-sum" in str(notes.get("writer", "")) or notes.get("bound") == NONE
    return ("~" if is_upper else ">=") if is_lower else "<=" if is_upper else ""


def doubt_of(notes: Mapping[str, Any], operator: str, passed: bool) -> str | None:
    """Return why the true value may not pass (or fail) as the measured one does; None if it does for certain."""
    bound = bound_of(notes)
    kinds = (_MAY_FAIL if passed else _MAY_PASS).get(operator, tuple(_MEANINGS))
    return _MEANINGS[bound] if bound in kinds else None
