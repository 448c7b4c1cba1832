"""Groups calls into bundles, each of which is sent as one Dask task. Pure: sends nothing.

A Dask task costs about a millisecond and a half of scheduling. Calls that are known to be much shorter share one Dask
task of about `TARGET_S`: independent calls of one function, or calls that depend on each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass
from math import ceil, inf

from runmem.execution.call_queue import CallQueue
from runmem.execution.call_state import Bundle, state_of
from runmem.graph.call import Execution

__all__ = ["Durations", "plan"]

TARGET_S = 0.02
SHORT_S = 0.008
_AHEAD_S = 10 * TARGET_S  # work sent ahead to a worker, of calls that may turn out to be shorter
_AHEAD_CALLS = 4  # at least this many of them
_MOST_DELAYED = 200  # calls that wait while later ones are sent
MOST_CALLS = 512
LARGEST_RESULT_BYTES = 64 * 1024


@dataclass(slots=True)
class _SeenDurations:
    ended: int = 0
    shortest_s: float = inf
    calls: float = 0.0
    total_s: float = 0.0
    largest_bytes: int = 0


class Durations:
    """Durations of the calls of each task on the workers, and the sizes of their results.

    Each report halves the weight of the earlier ones. The first calls import modules, touch new memory and run on a
    machine that is starting: they say little about the thousands after them.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _SeenDurations] = {}

    def observe(self, name: str, calls: int, total_s: float, largest_bytes: int) -> None:
        """Add the report of a worker: number of calls, their total duration, the size of their largest result."""
        seen = self._seen.setdefault(name, _SeenDurations())
        seen.ended += calls
        seen.shortest_s = min(seen.shortest_s, total_s / max(calls, 1))
        seen.calls = seen.calls / 2 + calls
        seen.total_s = seen.total_s / 2 + total_s
        seen.largest_bytes = max(seen.largest_bytes, largest_bytes)

    def mean_s(self, name: str) -> float | None:
        """Return the mean duration, the newest counting most, or None if no call has ended."""
        seen = self._seen.get(name)
        return seen.total_s / seen.calls if seen is not None and seen.calls else None

    def calls_per_bundle(self, name: str) -> int:
        """Return the number of calls of `name` that make a bundle of the target length; 1: each is sent alone."""
        mean = self.mean_s(name)
        if mean is None or mean > SHORT_S or self._seen[name].largest_bytes > LARGEST_RESULT_BYTES:
            return 1
        return max(1, min(MOST_CALLS, int(TARGET_S / max(mean, 1e-7))))

    def sent_limit(self, name: str, workers: int) -> int | None:
        """Return the largest number of calls of `name` that are sent and have not ended; None: no limit.

        Bundles cannot change once they are sent. While the calls may turn out to be shorter than the first ones, which
        import modules and find cold caches, no more are sent than keep the workers busy for a while.
        """
        seen, mean = self._seen.get(name), self.mean_s(name)
        if seen is None or mean is None:
            return 2 * workers
        is_long = seen.ended >= _AHEAD_CALLS * workers and seen.shortest_s > _AHEAD_S / 2
        if is_long or seen.largest_bytes > LARGEST_RESULT_BYTES:
            return None
        return workers * max(_AHEAD_CALLS, ceil(_AHEAD_S / max(mean, 1e-7)))


class _Bundling:
    """Bundles under construction: open ones accept more calls, closed ones are ready to be sent."""

    def __init__(self) -> None:
        self.closed: list[Bundle] = []
        self._opened: dict[str, Bundle] = {}
        self._member: dict[Execution, Bundle] = {}  # of open bundles only

    def place(self, execution: Execution, size: int) -> None:
        """Add an execution to a bundle of at most `size` calls.

        The bundle is that of the calls it needs, if they share one, else the open bundle of its own name.
        """
        needed = {id(b): b for e in state_of(execution).needs if (b := self._member.get(e)) is not None}
        if len(needed) == 1 and size > 1:
            bundle = next(iter(needed.values()))
        else:
            for bundle in needed.values():
                self._close(bundle)
            bundle = Bundle.named(execution.name)
            if size > 1:
                bundle = self._opened.setdefault(execution.name, bundle)
        bundle.executions.append(execution)
        self._member[execution] = bundle
        if len(bundle.executions) >= size:
            self._close(bundle)

    def _close(self, bundle: Bundle) -> None:
        self.closed.append(bundle)
        for name in [name for name, its in self._opened.items() if its is bundle]:
            del self._opened[name]
        for execution in bundle.executions:
            del self._member[execution]

    def close_all(self) -> list[Bundle]:
        """Close the open bundles; return all bundles, each after those that it needs."""
        for bundle in list(self._opened.values()):
            self._close(bundle)
        return self.closed


def plan(
    queue: CallQueue,
    durations: Durations,
    workers: int,
    in_flight: Counter[str],
    may_wait: Callable[[str], bool],
    admit: Callable[[Execution], bool] = lambda execution: True,
    held: Container[Execution] = (),
    awaited: Callable[[Execution], Execution | None] = lambda execution: None,
) -> list[Bundle]:
    """Remove executions from the front of `queue` and return the bundles to send, each after those that it needs.

    Parameters
    ----------
    in_flight : Counter
        Number of calls that were sent and have not ended, by task name; updated.
    may_wait : callable
        Takes the name of a task of which `Durations.sent_limit` calls are sent; returns whether its other calls may
        still wait. Later calls in the queue are sent meanwhile, except those that need them.
    admit : callable
        Takes a call; returns whether there is room for it now.
    held : container of Execution
        Calls that stay in the queue for now.
    awaited : callable
        Takes a call; returns one that must end before it is sent, None if there is none.

    Notes
    -----
    Bundles cannot wait for each other in a circle: a bundle can depend on another one only once that one is closed,
    and a closed bundle accepts no more calls.
    """
    most_each = max(1, ceil(len(queue) / workers))
    limits: dict[str, int | None] = {}
    bundling = _Bundling()
    left: dict[Execution, None] = {}
    while queue.first is not None and len(left) < _MOST_DELAYED:
        execution = queue.take()
        state = state_of(execution)
        name = execution.name
        if execution in held or (left and any(needed in left for needed in state.needs)):
            left[execution] = None
            continue
        if not state.has_value:
            if (needed := awaited(execution)) is not None:
                queue.keep_aside(execution, needed)
                continue
            if name not in limits:
                limits[name] = durations.sent_limit(name, workers)
            limit = limits[name]
            if limit is not None and in_flight[name] >= limit:
                if may_wait(name):
                    left[execution] = None
                    continue
                limits[name] = None
            if not admit(execution):
                left[execution] = None
                continue
            in_flight[name] += 1
        is_single = state.is_single or state.has_value or state.is_placed
        bundling.place(execution, 1 if is_single else min(most_each, durations.calls_per_bundle(name)))
    queue.put_back(left)
    return bundling.close_all()
