"""Gives calls their places by what they need; while nothing is known of a task, one call of it at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable

from runmem.errors import ArgumentError
from runmem.execution.call_state import state_of
from runmem.execution.call_table import CallTable
from runmem.execution.expectations import Expectations
from runmem.execution.placement import Demand, Placement
from runmem.execution.run_services import MemoryAware
from runmem.graph.call import Execution
from runmem.serialization.task_error import set_root_task
from runmem.units import format_bytes

__all__ = ["Demands"]

log = logging.getLogger("runmem")

_MOST_NAMED = 5
_ANY = Demand(1, 0)


class Demands:
    """Gives calls their places: with ``--memory_aware`` by what they are expected to need, else by what they declare.

    Parameters
    ----------
    placement : Placement
    memory : MemoryAware or None
        None without ``--memory_aware``.
    may_wait : callable
        Takes the name of a task; returns whether its calls may still wait until the first of them has ended.
    """

    def __init__(self, placement: Placement, memory: MemoryAware | None, may_wait: Callable[[str], bool]) -> None:
        self._placement = placement
        self._memory = memory
        self._expectations = None if memory is None else Expectations(memory.known)
        self._may_wait = may_wait
        self._first: dict[str, Execution] = {}  # the call of each task that shows what its calls need
        self._refused: dict[Execution, str] = {}
        self._too_large: set[str] = set()
        self._has_warned = False

    def of(self, execution: Execution) -> Demand | None:
        """Return what a call needs; None: it may be sent to any node."""
        state = state_of(execution)
        if self._expectations is not None and state.runs_alone:
            return self.expected(execution.name, (state.demand or _ANY)._replace(alone=True))
        return self.expected(execution.name, state.demand)

    def expected(self, name: str, declared: Demand | None) -> Demand | None:
        """Return what calls of a task need that declares `declared`; None: they may be sent to any node."""
        if self._expectations is None:
            return declared
        return self._expectations.demand(name, declared, self._placement.share_bytes)

    def observe(self, name: str, needed_bytes: int, kept_bytes: int = 0) -> None:
        """Note what a call of a task has needed, and how much of that its worker has in use after it."""
        if self._expectations is not None:
            self._expectations.observe(name, needed_bytes, kept_bytes)

    def admit(self, execution: Execution) -> bool:
        """Return True if a call, whose inputs are ready, can be sent now; give it a place if it has a demand."""
        state, demand = state_of(execution), self.of(execution)
        if demand is None:
            return self._placement.open_hosts() != []
        if any(state_of(needed).error is not None for needed in state.needs):
            return True  # it ends with their error
        reason = None if state.demand is None else self._placement.refusal(state.demand)
        if reason is None and self._give_place(execution, demand):
            return True
        for other in () if demand.alone else state.implementations:
            if self._placement.refusal(other.demand) is not None:
                continue
            expected = self.expected(other.task.name, other.demand) or other.demand
            if self._give_place(execution, expected):
                state.use(other)
                return True
            reason = None  # it will fit later
        if reason is not None:
            names = ", ".join(other.task.name for other in state.implementations)
            self._refused[execution] = reason + (f"; neither can its other implementations ({names})" if names else "")
        return False

    def end_refused(self, calls: CallTable) -> None:
        """End the calls for which no node is large enough; the caller has the lock of `calls`."""
        if not self._refused:
            return
        refused, self._refused = self._refused, {}
        for execution in calls.queue.remove(refused):
            where = f"call {execution.task_id} of {state_of(execution).place or execution.name}"
            error = ArgumentError(f"{where} cannot run on any node: {refused[execution]}.")
            set_root_task(error, execution.task_id)
            calls.end(execution, error)

    def release(self, execution: Execution) -> None:
        """Take back the place of a call that has ended, or waits again."""
        state_of(execution).is_placed = False
        kept_bytes = 0
        if self._expectations is not None and self._placement.has_place(execution):
            kept_bytes = self._expectations.kept_bytes(execution.name)
        self._placement.release(execution, kept_bytes)

    def _give_place(self, execution: Execution, demand: Demand) -> bool:
        """Give a call a place; return False if it has to wait."""
        name, state = execution.name, state_of(execution)
        if demand.is_guess and self._placement.has_place(self._first.get(name)) and self._may_wait(name):
            return False
        demand = self._possible(name, demand)
        if not self._placement.admit(execution, demand):
            return False
        if demand.is_guess:
            self._first[name] = execution
            self._warn_of_unknown(name)
        state.is_placed = True
        state.runs_alone = state.runs_alone or demand.alone
        return True

    def _possible(self, name: str, demand: Demand) -> Demand:
        """Return a demand that a node can meet: a call that is expected to need more than any has one for itself."""
        largest_bytes = self._placement.largest_bytes
        if not largest_bytes or demand.memory_bytes <= largest_bytes:
            return demand
        if name not in self._too_large:
            self._too_large.add(name)
            log.warning(
                "runmem: warning: task %s is expected to need %s, and the largest worker may use %s: its calls run "
                "alone on a node, and may be killed",
                name,
                format_bytes(demand.memory_bytes),
                format_bytes(largest_bytes),
            )
        return demand._replace(memory_bytes=largest_bytes, alone=True)

    def _warn_of_unknown(self, name: str) -> None:
        """Warn once that the run of --memory_from does not have a task of the program."""
        if self._memory is None or self._memory.source is None or self._has_warned:
            return
        self._has_warned = True
        known = sorted(self._memory.known)
        more = f" and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""
        log.warning(
            "runmem: warning: --memory_from: %s has no measurement of task %s (it has %s%s): calls of such tasks start "
            "one at a time until the first has ended",
            self._memory.source,
            name,
            ", ".join(known[:_MOST_NAMED]),
            more,
        )
