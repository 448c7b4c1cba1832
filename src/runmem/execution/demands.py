"""What calls need now, and the order in which those get a place of which nothing is known yet."""

from __future__ import annotations

import logging
from collections.abc import Callable

from runmem.execution.call_state import state_of
from runmem.execution.expectations import Expectations
from runmem.execution.placement import Demand, Placement
from runmem.execution.run_services import MemoryAware
from runmem.graph.call import Execution
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

    def admit(self, execution: Execution, demand: Demand, in_flight: int) -> bool:
        """Give a call a place; return False if it has to wait.

        Parameters
        ----------
        demand : Demand
            What `of` has returned for it.
        in_flight : int
            Number of calls, with a place or without, that were sent and have not ended.
        """
        name = execution.name
        if demand.is_guess and self._placement.has_place(self._first.get(name)) and self._may_wait(name):
            return False
        demand = self._possible(name, demand)
        if not self._placement.admit(execution, demand, in_flight - self._placement.placed):
            return False
        if demand.is_guess:
            self._first[name] = execution
            self._warn_of_unknown(name)
        return True

    def release(self, execution: Execution) -> None:
        """Take back the place of a call that has ended, or waits again."""
        kept_bytes = 0
        if self._expectations is not None and self._placement.has_place(execution):
            kept_bytes = self._expectations.kept_bytes(execution.name)
        self._placement.release(execution, kept_bytes)

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
                name, format_bytes(demand.memory_bytes), format_bytes(largest_bytes),
            )  # fmt: skip
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
            self._memory.source, name, ", ".join(known[:_MOST_NAMED]), more,
        )  # fmt: skip
