"""Calls that this worker process does not begin, because the program has cancelled them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

__all__ = ["cancel_calls", "cancelled_calls"]

cancelled_calls: defaultdict[str, set[int]] = defaultdict(set)
"""Numbers of cancelled calls, by the id of the run."""


def cancel_calls(run_id: str, task_ids: Sequence[int], keys: Sequence[str], dask_worker: object) -> list[str]:
    """Begin none of these calls from now on; return those of the Dask tasks that this worker has begun.

    Runs in the worker's event loop, in which Dask tasks begin: none of them can begin between the two.
    """
    from runmem.dask_private import has_begun  # here: a process that runs calls for a worker needs no Dask

    cancelled_calls[run_id].update(task_ids)
    return [key for key in keys if has_begun(dask_worker, key)]
