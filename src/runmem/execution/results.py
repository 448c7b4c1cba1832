"""Results on their way from the cluster to the program."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import distributed

from runmem.errors import ResultError
from runmem.execution.bundle import Bundle
from runmem.graph.call import Execution, Version
from runmem.serialization.error_parts import text_of
from runmem.serialization.interrupts import is_interrupt
from runmem.serialization.packed import Carried, taken, unpacked
from runmem.store.node_name import node_name

__all__ = ["Results", "made_again"]

_KEPT_BUNDLES = 16


class Results:
    """Fetches results; those of other calls of a bundle are kept a while: they are likely to be asked for next.

    What was handed over is not kept, because the program may change it.
    """

    def __init__(self) -> None:
        self._kept: deque[Bundle] = deque()

    def of(self, executions: Sequence[Execution], client: distributed.Client) -> dict[Execution, Any]:
        """Return the results of executions that have ended, packed: a value, or a tuple where there are more outputs.

        Raises
        ------
        Exception
            What the Dask task failed with, if it ran again after a loss.
        """
        found = {e: e.state.bundle.values.pop(e.state.position) for e in executions if self._keeps(e)}
        others = [execution for execution in executions if execution not in found]
        bundles = list({id(e.state.bundle): e.state.bundle for e in others}.values())
        results = client.gather([bundle.future for bundle in bundles]) if bundles else []
        fetched = {bundle: _items(result) for bundle, result in zip(bundles, results, strict=True)}
        return found | {execution: self._take(execution, fetched) for execution in others}

    @staticmethod
    def _keeps(execution: Execution) -> bool:
        values = execution.state.bundle.values
        return values is not None and execution.state.position in values

    def _take(self, execution: Execution, fetched: dict[Bundle, Any]) -> Any:
        bundle, position = execution.state.bundle, execution.state.position
        if position is None:
            return fetched[bundle]
        if bundle.values is None:
            bundle.values = dict(enumerate(fetched[bundle]))
            self._kept.append(bundle)
            if len(self._kept) > _KEPT_BUNDLES:
                self._kept.popleft().values = None
        kept = bundle.values is not None and position in bundle.values
        return bundle.values.pop(position) if kept else fetched[bundle][position]


def _items(result: Any) -> Any:
    return result.values if type(result) is Carried else result


def made_again(version: Version, result: Any, own: bool = True) -> Any:
    """Return the value of a version, given the result of its execution as workers keep it; `own`: nobody else has that.

    Raises
    ------
    ResultError
        If the value could not be packed, or cannot be unpacked here.
    """
    execution = version.execution
    kept = result[version.output] if execution.outputs > 1 else result
    try:
        return taken(kept) if own else unpacked(kept)
    except ResultError:
        raise
    except BaseException as error:  # also SystemExit: the class of a value in it has raised this
        if is_interrupt(error):
            raise
        raise ResultError(
            f"the result of task {execution.name} (call {execution.task_id}) cannot be made again in the program, on "
            f"node {node_name()} ({text_of(error)}). See that its class can be unpickled: `copy.copy` of such an "
            "object in the task shows the same."
        ) from error
