"""Fetches results from the cluster to the program."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import distributed

from runmem.errors import ResultError
from runmem.execution.call_state import Bundle, state_of
from runmem.graph.call import Execution, Version
from runmem.serialization.error_parts import text_of
from runmem.serialization.interrupts import is_interrupt
from runmem.serialization.packed import Wrapped, load_stored, take_stored
from runmem.store.node_name import node_name

__all__ = ["FetchedResults", "loaded_value"]

_KEPT_BUNDLES = 16


class FetchedResults:
    """Fetches results, and keeps those of other calls of the same bundles: they are likely to be fetched next.

    Each result is returned once and not kept after that, because the program may change it.
    """

    def __init__(self) -> None:
        self._kept: deque[Bundle] = deque()

    def of(self, executions: Sequence[Execution], client: distributed.Client) -> dict[Execution, object]:
        """Return the packed results of executions that have ended; a tuple for an execution with several outputs.

        Raises
        ------
        Exception
            The error of a Dask task that ran again for a lost result.
        """
        found: dict[Execution, object] = {}
        others: dict[Execution, tuple[Bundle, int | None]] = {}
        for execution in executions:
            bundle, position = state_of(execution).bundle, state_of(execution).position
            assert bundle is not None
            if bundle.values is not None and position in bundle.values:
                found[execution] = bundle.values.pop(position)
            else:
                others[execution] = bundle, position
        bundles = list({bundle.key: bundle for bundle, _ in others.values()}.values())
        results = client.gather([bundle.future for bundle in bundles]) if bundles else []
        fetched = {
            bundle: result.values if type(result) is Wrapped else result
            for bundle, result in zip(bundles, results, strict=True)
        }
        for execution, (bundle, position) in others.items():
            found[execution] = self._take(bundle, position, fetched[bundle])
        return found

    def _take(self, bundle: Bundle, position: int | None, fetched: Any) -> object:
        if position is None:
            return fetched
        if bundle.values is None:
            bundle.values = dict(enumerate(fetched))
            self._kept.append(bundle)
            if len(self._kept) > _KEPT_BUNDLES:
                self._kept.popleft().values = None
        kept = bundle.values is not None and position in bundle.values
        return bundle.values.pop(position) if kept else fetched[position]


def loaded_value(version: Version, result: Any, own: bool = True) -> object:
    """Return the value of a version, given the packed result of its execution; `own`: nothing else uses that.

    Raises
    ------
    ResultError
        If the value could not be packed, or cannot be unpacked here.
    """
    execution = version.execution
    stored = result[version.output] if execution.outputs > 1 else result
    try:
        return take_stored(stored) if own else load_stored(stored)
    except ResultError:
        raise
    except BaseException as error:  # also SystemExit: the class of a value in it has raised this
        if is_interrupt(error):
            raise
        raise ResultError(
            f"the result of task {execution.name} (call {execution.task_id}) cannot be unpickled in the program, on "
            f"node {node_name()} ({text_of(error)}). Objects of its class must unpickle without "
            "errors: `copy.copy` of one in the task shows this one."
        ) from error
