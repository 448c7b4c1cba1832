"""How a call is kept apart from others."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Isolation"]


@dataclass(frozen=True, slots=True)
class Isolation:
    """How a call is kept apart from others on its worker, and how often it may begin.

    Attributes
    ----------
    fresh_process : bool
        Whether the call runs in a process of its own, which begins with it and ends with it.
    limit_s : float or None
        Seconds that it may take; 0: any time; None: as long as the run allows.
    attempts : int or None
        How often it may begin, should its worker die; None: as often as the cluster is willing to try.
    """

    fresh_process: bool = False
    limit_s: float | None = None
    attempts: int | None = None
