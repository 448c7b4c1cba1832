"""The Dask task of a bundle: a function, what it is given, and the keys of the results that it needs."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

from runmem.execution.bundle import Bundle, Pending
from runmem.graph.call import Version
from runmem.serialization.packed import LARGE_BYTES, Buffer
from runmem.worker.bundle_runner import PackedCall, PackedTask, keep_value, run_bundle

__all__ = ["dask_task"]


def dask_task(bundle: Bundle, run_id: str) -> tuple[Callable[..., Any], Sequence[Any], list[str]]:
    """Return (function, literal arguments, keys whose values follow), and note in each execution where it went.

    The bundles of everything that the executions need must have their keys already.
    """
    alone = len(bundle.executions) == 1
    for position, execution in enumerate(bundle.executions):
        execution.state.bundle, execution.state.position = bundle, None if alone else position
    first: Pending = bundle.executions[0].state
    if first.has_value:
        return keep_value, (first.value,), []
    tasks: dict[PackedTask, int] = {}
    keys: dict[str, int] = {}
    calls = []
    for execution in bundle.executions:
        state: Pending = execution.state
        after = tuple(needed.state.position for needed in state.after if needed.state.bundle is bundle)
        for needed in state.after:
            if needed.state.bundle is not bundle:
                keys.setdefault(needed.state.bundle.key, len(keys))
        body = state.body
        task = tasks.setdefault(state.task, len(tasks))
        if not (body.inputs or body.changing or state.writes or state.files or after):
            calls.append(PackedCall(execution.task_id, task, body.data, own=body.own))
            continue
        sources = [_source(version, bundle, keys) for version in body.inputs]
        calls.append(
            PackedCall(
                execution.task_id, task, body.data, state.writes, state.files, sources, body.places, body.values,
                body.buffers, body.own, body.changing, after,
            )
        )  # fmt: skip
    data = pickle.dumps(calls, pickle.HIGHEST_PROTOCOL)
    packed = Buffer(data) if len(data) > LARGE_BYTES else data
    return run_bundle, (run_id, bundle.key, tuple(tasks), packed), list(keys)


def _source(version: Version, bundle: Bundle, keys: dict[str, int]) -> tuple[int, int | None, int | None]:
    """Return where an input comes from, as `PackedCall.sources` has it."""
    state: Pending = version.execution.state
    assert state.bundle is not None
    slot = -1 if state.bundle is bundle else keys.setdefault(state.bundle.key, len(keys))
    return slot, state.position, version.output if version.execution.outputs > 1 else None
