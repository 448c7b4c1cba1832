"""Makes the Dask task of a bundle: a function, its arguments, and the keys of the results that it needs."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence

from runmem.execution.call_state import Bundle, state_of
from runmem.execution.run_services import Caller
from runmem.graph.call import Version
from runmem.serialization.packed import LARGE_BYTES, Buffer
from runmem.worker.bundle_runner import keep_value, run_bundle
from runmem.worker.packed_call import PackedCall, PackedTask

__all__ = ["dask_task"]


def dask_task(
    bundle: Bundle, run_id: str, caller: Caller | None = None
) -> tuple[Callable[..., object], Sequence[object], list[str]]:
    """Return (function, literal arguments, keys whose values follow), and note bundle and position in each execution.

    The bundles of everything that the executions need must have their keys already.
    """
    alone = len(bundle.executions) == 1
    for position, execution in enumerate(bundle.executions):
        state = state_of(execution)
        state.bundle, state.position = bundle, None if alone else position
    first = state_of(bundle.executions[0])
    if first.has_value:
        return keep_value, (first.value,), []
    parent, depth = (0, 0) if caller is None else (caller.task_id, caller.depth + 1)
    tasks: dict[PackedTask, int] = {}
    keys: dict[str, int] = {}
    calls = []
    for execution in bundle.executions:
        state = state_of(execution)
        assert state.task is not None
        after: list[int] = []
        for needed in map(state_of, state.after):
            assert needed.bundle is not None
            if needed.bundle is not bundle:
                keys.setdefault(needed.bundle.key, len(keys))
            elif needed.position is not None:
                after.append(needed.position)
        sources = [_source(version, bundle, keys) for version in state.payload.inputs]
        # Whatever else is in a Dask task's result may still be read, and a call of a bundle may have to run again.
        last_read = [index for index in state.last_read if alone and sources[index][1:] == (None, None)]
        task = tasks.setdefault(state.task, len(tasks))
        calls.append(
            PackedCall(
                execution.task_id,
                task,
                state.payload.arguments,
                state.writes,
                state.files,
                tuple(sources),
                tuple(after),
                tuple(last_read),
                parent,
                depth,
                state.runs_alone,
                state.runs_larger,
            )
        )
    data = pickle.dumps(calls, pickle.HIGHEST_PROTOCOL)
    packed = Buffer(data) if len(data) > LARGE_BYTES else data
    return run_bundle, (run_id, bundle.key, tuple(tasks), packed), list(keys)


def _source(version: Version, bundle: Bundle, keys: dict[str, int]) -> tuple[int, int | None, int | None]:
    """Return the origin of an input, in the form of `PackedCall.sources`."""
    state = state_of(version.execution)
    assert state.bundle is not None
    slot = -1 if state.bundle is bundle else keys.setdefault(state.bundle.key, len(keys))
    return slot, state.position, version.output if version.execution.outputs > 1 else None
