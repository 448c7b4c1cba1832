"""Calls that this worker process does not begin, because the program has cancelled them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

__all__ = ["cancel_calls", "cancelled_calls"]

cancelled_calls: defaultdict[str, set[int]] = defaultdict(set)
"""Numbers of cancelled calls, by the id of the run."""


def cancel_calls(run_id: str, task_ids: Sequence[int]) -> None:
    """Begin none of these calls from now on, and end those of them that run in fresh processes."""
    cancelled_calls[run_id].update(task_ids)
