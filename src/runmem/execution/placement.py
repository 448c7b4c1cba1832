"""Places calls with constraints: on each node they have together no more processors and memory than it has.

Limitations: calls without constraints are not counted, and may run on the same node meanwhile. What a node has is what
its workers have: their threads, and their memory limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from runmem.graph.call import Execution, TaskCall
from runmem.graph.constraints import CONSTRAINTS, memory_of, units_of
from runmem.units import format_bytes

__all__ = ["Demand", "Placement", "WorkerInfo", "demand_of"]

_REFRESH_S = 2.0


class Demand(NamedTuple):
    """Resources that one call needs: processors, and memory in bytes.

    Attributes
    ----------
    units, memory_bytes : int
    alone : bool
        Whether no other call of the run may run on its node meanwhile.
    """

    units: int
    memory_bytes: int
    alone: bool = False


class WorkerInfo(NamedTuple):
    """A worker of the cluster: its address, the host it is on, its threads, its memory limit in bytes (0: none)."""

    address: str
    host: str
    threads: int
    limit_bytes: int


def demand_of(call: TaskCall) -> Demand | None:
    """Return the demand of a call; None for at most one processor and any memory.

    Raises
    ------
    ArgumentError
        If an expression in `@constraint` gives no number.
    """
    if CONSTRAINTS not in call.task.options:
        return None
    demand = Demand(units_of(call), memory_of(call) or 0)
    return demand if demand.units > 1 or demand.memory_bytes else None


@dataclass(slots=True)
class _NodeRoom:
    workers: list[WorkerInfo] = field(default_factory=list)
    used: dict[Execution, Demand] = field(default_factory=dict)

    @property
    def units(self) -> int:
        """Number of threads of all workers."""
        return sum(worker.threads for worker in self.workers)

    @property
    def memory_bytes(self) -> int:
        """Sum of the memory limits of all workers; 0: no limit."""
        return sum(worker.limit_bytes for worker in self.workers)

    def could_hold(self, demand: Demand) -> bool:
        """Return True if the empty node has room for a call."""
        is_large = any(not worker.limit_bytes or worker.limit_bytes >= demand.memory_bytes for worker in self.workers)
        return self.units >= demand.units and is_large

    def free_units(self) -> int:
        """Return the number of processors that no call with constraints uses."""
        return self.units - sum(max(demand.units, 1) for demand in self.used.values())

    def has_room(self, demand: Demand) -> bool:
        """Return True if a call fits beside those that the node has."""
        used_bytes = sum(each.memory_bytes for each in self.used.values())
        fits = not self.memory_bytes or used_bytes + demand.memory_bytes <= self.memory_bytes
        return self.could_hold(demand) and self.free_units() >= demand.units and fits


class Placement:
    """The nodes of a cluster, and which calls with constraints are on each.

    Parameters
    ----------
    workers : callable
        Returns the workers of the cluster; asked now and then, while calls wait.
    """

    def __init__(self, workers: Callable[[], Sequence[WorkerInfo]]) -> None:
        self._workers = workers
        self._nodes: dict[str, _NodeRoom] = {}
        self._place: dict[Execution, str] = {}
        self._alone: tuple[Execution, str] | None = None
        self._asked_s = float("-inf")

    def refresh(self) -> None:
        """Ask for the workers, unless that was done a moment ago."""
        if time.monotonic() - self._asked_s < _REFRESH_S:
            return
        self._asked_s = time.monotonic()
        for node in self._nodes.values():
            node.workers = []
        for worker in self._workers():
            self._nodes.setdefault(worker.host, _NodeRoom()).workers.append(worker)

    def refusal(self, demand: Demand) -> str | None:
        """Return why no node of the cluster can ever hold a call; None if one can."""
        nodes = [node for node in self._nodes.values() if node.workers]
        if not nodes or any(node.could_hold(demand) for node in nodes):
            return None
        units = max(node.units for node in nodes)
        largest = max((worker for node in nodes for worker in node.workers), key=lambda worker: worker.limit_bytes)
        if demand.units > units:
            return (
                f"@constraint asks for {demand.units} computing units, and the largest node has {units} (workers times "
                "threads): ask for fewer, or start more --workers on a node"
            )
        return (
            f"@constraint asks for {format_bytes(demand.memory_bytes)} of memory, and the largest worker, "
            f"{largest.address}, may use {format_bytes(largest.limit_bytes)}: ask for less, or start fewer "
            "workers with a larger --worker_memory"
        )

    def admit(self, execution: Execution, demand: Demand, unplaced: int = 0) -> bool:
        """Give a call room on the node that has most of it; return False if none has enough now.

        Parameters
        ----------
        unplaced : int
            Number of calls without a place here that were sent and have not ended; they may be on any node.
        """
        if demand.alone:
            return self._admit_alone(execution, demand, unplaced)
        nodes = [(name, node) for name, node in self._nodes.items() if name != self.closed and node.has_room(demand)]
        if not nodes:
            return False
        name, node = max(nodes, key=lambda each: each[1].free_units())
        self._put(execution, demand, name)
        return True

    def _admit_alone(self, execution: Execution, demand: Demand, unplaced: int) -> bool:
        """Close a node to all other calls; give it to this call when those that it has, and all unplaced ones, end."""
        if self._alone is not None and self._alone[0] is not execution:
            return False
        if self._alone is None or not self._nodes[self._alone[1]].workers:
            nodes = [(name, node) for name, node in self._nodes.items() if node.could_hold(demand)]
            if not nodes:
                return False
            self._alone = execution, min(nodes, key=lambda each: len(each[1].used))[0]
        if unplaced or self._nodes[self._alone[1]].used:
            return False
        self._put(execution, demand, self._alone[1])
        return True

    def _put(self, execution: Execution, demand: Demand, name: str) -> None:
        self._nodes[name].used[execution] = demand
        self._place[execution] = name

    @property
    def closed(self) -> str | None:
        """The host that one call has for itself, or waits for; None: all are open."""
        return None if self._alone is None else self._alone[1]

    @property
    def placed(self) -> int:
        """Number of calls that have a place."""
        return len(self._place)

    def open_hosts(self) -> list[str] | None:
        """Return the hosts to which calls without a place may be sent; None: to all of them."""
        if self._alone is None:
            return None
        execution, closed = self._alone
        if execution not in self._place:  # what is sent now would be waited for
            return []
        return [name for name, node in self._nodes.items() if name != closed and node.workers]

    def release(self, execution: Execution) -> None:
        """Take back the room of a call that has ended, or waits again."""
        if self._alone is not None and self._alone[0] is execution:
            self._alone = None
        name = self._place.pop(execution, None)
        if name is not None:
            del self._nodes[name].used[execution]

    def hosts_for(self, execution: Execution) -> list[str] | None:
        """Return the hosts on which a call may run; None: any."""
        if len(self._nodes) < 2:
            return None
        name = self._place.get(execution)
        return self.open_hosts() if name is None else [name]
