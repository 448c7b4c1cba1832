"""Places calls with demands: on each node they have together no more processors and memory than it has.

Without ``--memory_aware`` only calls with constraints or ``memory=`` have a demand; the others are not counted, and may
run on the same node meanwhile. What a node has is what its workers have: their threads, and their memory limits.

With ``--memory_aware`` all calls that need memory have a demand, and what the workers have in use anyway counts too:
results, inputs of running calls, libraries. Each worker reports that with its heartbeats, so it may be a second old.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from runmem.graph.call import Execution, TaskCall
from runmem.graph.constraints import CONSTRAINTS, memory_of, units_of
from runmem.units import format_bytes

__all__ = ["Demand", "Placement", "WorkerInfo", "demand_of"]

_REFRESH_S = 2.0
_LEVEL_REFRESH_S = 0.25
_OVERTAKEN_A_THREAD = 4


class Demand(NamedTuple):
    """Resources that one call needs: processors, and memory in bytes.

    Attributes
    ----------
    units, memory_bytes : int
    alone : bool
        Whether a node is kept for it: it is sent there when the calls with a place have ended, and no other call until
        it has ended. The worker waits for the rest, see `PackedCall.alone`.
    is_guess : bool
        Whether nothing is known of the memory that it needs.
    """

    units: int
    memory_bytes: int
    alone: bool = False
    is_guess: bool = False


class WorkerInfo(NamedTuple):
    """A worker of the cluster.

    Attributes
    ----------
    address, host : str
    threads : int
    limit_bytes : int
        Its memory limit; 0: none.
    level_bytes : int
        What it has in use, without what its running calls have added; 0 where that does not count.
    resident_bytes : int
        All that it has in use; 0 where that does not count.
    """

    address: str
    host: str
    threads: int
    limit_bytes: int
    level_bytes: int = 0
    resident_bytes: int = 0


def demand_of(call: TaskCall) -> Demand | None:
    """Return the demand that a task declares for a call; None for at most one processor and any memory.

    Raises
    ------
    ArgumentError
        If an expression in `@constraint` gives no number.
    """
    memory_bytes = call.task.memory_bytes
    if CONSTRAINTS not in call.task.options:
        return None if memory_bytes is None else Demand(1, memory_bytes)
    demand = Demand(units_of(call), memory_of(call) or 0 if memory_bytes is None else memory_bytes)
    return demand if demand.units > 1 or demand.memory_bytes else None


@dataclass(slots=True)
class _NodeRoom:
    """What a node has, and what calls use of it.

    Attributes
    ----------
    shares : bool
        Whether the limit of each worker is that of all workers of the node together; else each has its own.
    taken_bytes : int
        Memory of that limit that other processes than workers take.
    left : deque
        Results of calls that have ended, which the workers' levels may not contain yet: moment and size.
    changed_s : float
        Moment at which a call began or ended last.
    """

    shares: bool
    workers: list[WorkerInfo] = field(default_factory=list)
    used: dict[Execution, Demand] = field(default_factory=dict)
    taken_bytes: int = 0
    left: deque[tuple[float, int]] = field(default_factory=deque)
    changed_s: float = float("-inf")

    @property
    def units(self) -> int:
        """Number of threads of all workers."""
        return sum(worker.threads for worker in self.workers)

    @property
    def memory_bytes(self) -> int:
        """What all workers may use together; 0: no limit."""
        limits = [worker.limit_bytes for worker in self.workers]
        if not all(limits):
            return 0
        return max(0, max(limits, default=0) - self.taken_bytes) if self.shares else sum(limits)

    @property
    def largest_bytes(self) -> int:
        """What one worker may use; 0: no limit."""
        if self.shares:
            return self.memory_bytes
        limits = [worker.limit_bytes for worker in self.workers]
        return max(limits, default=0) if all(limits) else 0

    def could_hold(self, demand: Demand) -> bool:
        """Return True if the empty node has room for a call."""
        is_large = any(not worker.limit_bytes or worker.limit_bytes >= demand.memory_bytes for worker in self.workers)
        return self.units >= demand.units and is_large

    def free_units(self) -> int:
        """Return the number of processors that no placed call uses."""
        return self.units - sum(max(demand.units, 1) for demand in self.used.values())

    def occupied_bytes(self, stale_s: float) -> int:
        """Return the memory that is in use, or that the calls on the node are expected to take still.

        `stale_s`: how old the workers' own figures may be.
        """
        now_s = time.monotonic()
        while self.left and self.left[0][0] < now_s - stale_s:
            self.left.popleft()
        levels = sum(worker.level_bytes for worker in self.workers) + sum(size for _, size in self.left)
        expected = levels + sum(demand.memory_bytes for demand in self.used.values())
        if now_s - self.changed_s < stale_s:  # what the workers have in use may be that of calls that have ended
            return expected
        return max(expected, sum(worker.resident_bytes for worker in self.workers))

    def has_room(self, demand: Demand, stale_s: float) -> bool:
        """Return True if a call fits beside those that the node has; one that fits beside none has it for itself."""
        if not self.could_hold(demand) or self.free_units() < demand.units:
            return False
        limit = self.memory_bytes
        return not self.used or not limit or self.occupied_bytes(stale_s) + demand.memory_bytes <= limit

    def fitting(self, demand: Demand) -> list[str] | None:
        """Return the addresses of the workers on which a call fits by their own limits; None: all, or none."""
        if self.shares:
            return None
        fitting = [
            worker.address
            for worker in self.workers
            if not worker.limit_bytes or worker.level_bytes + demand.memory_bytes <= worker.limit_bytes
        ]
        return fitting if 0 < len(fitting) < len(self.workers) else None


class Placement:
    """The nodes of a cluster, and which calls with demands are on each.

    Parameters
    ----------
    workers : callable
        Returns the workers of the cluster; asked now and then, while calls wait.
    shares : bool
        Whether the limit of each worker is that of all workers of its node together.
    taken : callable or None
        With ``--memory_aware``: returns the memory, in bytes, that other processes take of the limits of nodes.

    Attributes
    ----------
    changes : int
        Grows whenever a call may have room that had none before.
    """

    def __init__(
        self,
        workers: Callable[[], Sequence[WorkerInfo]],
        shares: bool = False,
        taken: Callable[[], int] | None = None,
    ) -> None:
        self._workers = workers
        self._shares = shares
        self._taken = taken
        self._nodes: dict[str, _NodeRoom] = {}
        self._place: dict[Execution, tuple[str, list[str] | None]] = {}
        self._overtaken: dict[Execution, tuple[Demand, int]] = {}  # how many calls were placed while one waited
        self._alone: tuple[Execution, str] | None = None
        self._full: set[Demand] = set()  # of which no call has room now
        self._next_s = float("-inf")
        self._stale_s = 0.0
        self.changes = 0

    def refresh(self) -> None:
        """Ask for the workers, unless that was done a moment ago."""
        began_s = time.monotonic()
        if began_s < self._next_s:
            return
        for node in self._nodes.values():
            node.workers = []
        taken_bytes = self._taken() if self._taken is not None else 0
        workers = self._workers()
        for worker in workers:
            node = self._nodes.setdefault(worker.host, _NodeRoom(self._shares))
            node.workers.append(worker)
            node.taken_bytes = taken_bytes
        self._room_changed()
        # Dask's workers report less often where there are many.
        self._stale_s = max(min(1 + len(workers) / 20, 4), 2 + len(workers) / 200)
        now_s = time.monotonic()
        self._next_s = now_s + max(_REFRESH_S if self._taken is None else _LEVEL_REFRESH_S, 20 * (now_s - began_s))

    def refusal(self, demand: Demand) -> str | None:
        """Return why no node of the cluster can ever hold a call; None if one can."""
        nodes = [node for node in self._nodes.values() if node.workers]
        if not nodes or any(node.could_hold(demand) for node in nodes):
            return None
        units = max(node.units for node in nodes)
        largest = max((worker for node in nodes for worker in node.workers), key=lambda worker: worker.limit_bytes)
        if demand.units > units:
            return (
                f"it asks for {demand.units} computing units, and the largest node has {units} (workers times "
                "threads): ask for fewer, or start more --workers on a node"
            )
        return (
            f"it asks for {format_bytes(demand.memory_bytes)} of memory, and the largest worker, "
            f"{largest.address}, may use {format_bytes(largest.limit_bytes)}: ask for less, or start fewer "
            "workers with a larger --worker_memory"
        )

    def _room_changed(self) -> None:
        self.changes += 1
        self._full.clear()

    @property
    def share_bytes(self) -> int:
        """The equal share of a thread in the memory of its node, on the node where it is smallest; 0: no limit."""
        shares = [node.memory_bytes // node.units for node in self._nodes.values() if node.units]
        return min(shares, default=0)

    @property
    def largest_bytes(self) -> int:
        """What the largest worker may use; 0: no limit."""
        limits = [node.largest_bytes for node in self._nodes.values() if node.workers]
        return max(limits, default=0) if all(limits) else 0

    def admit(self, execution: Execution, demand: Demand) -> bool:
        """Give a call room on the node that has most of it; return False if none has enough now."""
        if demand.alone:
            return self._admit_alone(execution, demand)
        if demand in self._full and execution not in self._overtaken:
            return False
        open_nodes = {name: node for name, node in self._nodes.items() if name != self.closed}
        if (first := self._longest_overtaken()) not in (None, execution):
            assert first is not None
            wanted = self._overtaken[first][0]
            open_nodes = {name: node for name, node in open_nodes.items() if not node.could_hold(wanted)}
        nodes = [(name, node) for name, node in open_nodes.items() if node.has_room(demand, self._stale_s)]
        if not nodes:
            if any(node.free_units() >= demand.units for node in open_nodes.values()):
                self._overtaken[execution] = demand, self._overtaken.get(execution, (demand, 0))[1]
            self._full.add(demand)
            return False
        name, node = max(nodes, key=lambda each: each[1].free_units())
        if self._overtaken.pop(execution, None) is not None:
            self._room_changed()
        for waiting, (its, times) in self._overtaken.items():
            self._overtaken[waiting] = its, times + node.could_hold(its)
        self._put(execution, demand, name)
        return True

    def _longest_overtaken(self) -> Execution | None:
        """Return a call that others have overtaken so often that no other may do so any more; None if there is none.

        Else a call that needs much would wait for as long as calls come that need little.
        """
        if not self._overtaken:
            return None
        most = _OVERTAKEN_A_THREAD * max(node.units for node in self._nodes.values())
        return next((execution for execution, (_, times) in self._overtaken.items() if times >= most), None)

    def _admit_alone(self, execution: Execution, demand: Demand) -> bool:
        """Close a node to all other calls; give it to this call when those that have a place there have ended."""
        if self._alone is not None and self._alone[0] is not execution:
            return False
        if self._alone is None or not self._nodes[self._alone[1]].workers:
            nodes = [(name, node) for name, node in self._nodes.items() if node.could_hold(demand)]
            if not nodes:
                return False
            self._alone = execution, min(nodes, key=lambda each: len(each[1].used))[0]
        if self._nodes[self._alone[1]].used:
            return False
        self._put(execution, demand, self._alone[1])
        return True

    def _put(self, execution: Execution, demand: Demand, name: str) -> None:
        node = self._nodes[name]
        node.used[execution] = demand
        node.changed_s = time.monotonic()
        self._place[execution] = name, node.fitting(demand)

    @property
    def closed(self) -> str | None:
        """The host that one call has for itself, or waits for; None: all are open."""
        return None if self._alone is None else self._alone[1]

    def has_place(self, execution: Execution | None) -> bool:
        """Return True if a call has a place."""
        return execution in self._place

    def open_hosts(self) -> list[str] | None:
        """Return the hosts to which calls without a place may be sent; None: to all of them."""
        if self._alone is None:
            return None
        return [name for name, node in self._nodes.items() if name != self.closed and node.workers]

    def release(self, execution: Execution, left_bytes: int = 0) -> None:
        """Take back the room of a call that has ended, or waits again; `left_bytes` of it are in use still."""
        if self._alone is not None and self._alone[0] is execution:
            self._alone = None
            self._room_changed()
        if self._overtaken.pop(execution, None) is not None:
            self._room_changed()
        place = self._place.pop(execution, None)
        if place is not None:
            node = self._nodes[place[0]]
            del node.used[execution]
            node.changed_s = time.monotonic()
            self._room_changed()
            if left_bytes:
                node.left.append((node.changed_s, left_bytes))

    def hosts_for(self, execution: Execution) -> list[str] | None:
        """Return the hosts, or the addresses of workers, on which a call may run; None: any."""
        if (place := self._place.get(execution)) is not None and place[1] is not None:
            return place[1]
        if len(self._nodes) < 2:
            return None
        return self.open_hosts() if place is None else [place[0]]
