"""Calls that travel to a worker together. Pure: decides what goes with what, sends nothing.

A Dask task costs about a millisecond and a half of scheduling. Calls that are known to be much shorter share one Dask
task of about `TARGET_S`: independent calls of one function, or calls that depend on each other.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from math import ceil, inf
from typing import Any

from runmem.execution.call_queue import CallQueue
from runmem.graph.call import Execution, FileUse, Slot
from runmem.serialization.arguments import NO_BODY, Body
from runmem.store.layout import safe_name

__all__ = ["KEY_MARK", "Bundle", "Pending", "Durations", "plan"]

TARGET_S = 0.02
SHORT_S = 0.008
_AHEAD_S = 10 * TARGET_S  # work that a worker has before it, of calls that may turn out to be shorter
_AHEAD_CALLS = 4  # at least so many of them
_MOST_PASSED_BY = 200  # calls that are held back, while others behind them go on
MOST_CALLS = 512
LARGEST_RESULT_BYTES = 64 * 1024


@dataclass(slots=True, eq=False)
class Pending:
    """What the submitter knows of an execution.

    Attributes
    ----------
    number : int
        See `CallQueue`.
    turn : int
        Whose turn it is first: see `take_turn`.
    is_needed : bool
        Whether another call needs it.
    task : PackedTask
    body : Body
        The packed arguments.
    after : tuple of Execution
        What must have ended before, without its value.
    alone : bool
        Whether the call must not share a bundle, because one that it shared was killed or failed.
    value, has_value
        A value that the program sends (a large argument), and whether it is that; there is no call then.
    classes : frozenset of int
        Definitions of the program that the results may refer to.
    definitions : object
        What keeps these alive.
    bundle, position
        Where it was sent: its bundle and its place in it; None while it waits.
    error
        The exception it ended with.
    done : bool
        Whether it has ended, well or badly.
    """

    number: int = 0
    turn: int = 0
    is_needed: bool = False
    task: Any = None
    body: Body = NO_BODY
    after: tuple[Execution, ...] = ()
    writes: tuple[Slot, ...] = ()
    files: tuple[FileUse, ...] = ()
    alone: bool = False
    value: Any = None
    has_value: bool = False
    classes: frozenset[int] = frozenset()
    definitions: Any = None
    bundle: Bundle | None = None
    position: int | None = None
    error: BaseException | None = None
    done: bool = False

    @property
    def needs(self) -> list[Execution]:
        """The executions that must have ended before."""
        return [version.execution for version in self.body.inputs] + list(self.after)

    def take_turn(self) -> None:
        """Settle when its turn is, once it has a number: in the order of the program, but at once after what it needs.

        So what one call makes is used up before the next one makes more, as far as nobody else needs it.
        """
        needed: list[Pending] = [e.state for e in self.needs if not e.state.has_value]
        is_first = bool(needed) and not any(pending.is_needed for pending in needed)
        self.turn = max(pending.turn for pending in needed) if is_first else self.number
        for pending in needed:
            pending.is_needed = True

    def let_go(self) -> None:
        """Forget what was only needed to run the call."""
        self.task, self.body, self.after, self.value = None, NO_BODY, (), None


@dataclass(slots=True, eq=False)
class Bundle:
    """Executions that run one after the other in one Dask task.

    Attributes
    ----------
    key : str
        Key of the Dask task; what stands before the last dash is what the Dask dashboard shows.
    executions : list of Execution
        Those that have not ended; they refer to the bundle, so keeping them would keep all of its results alive.
    future
        The Dask future, once it was sent.
    values : dict or None
        Results that were fetched with those of other calls of the bundle, by position.
    """

    key: str
    executions: list[Execution] = field(default_factory=list)
    future: Any = None
    values: dict[int, Any] | None = None

    @property
    def turn(self) -> int:
        """That of the first of its calls."""
        return min((execution.state.turn for execution in self.executions), default=0)

    @classmethod
    def named(cls, name: str) -> Bundle:
        """Return an empty bundle whose Dask task is called `name`."""
        return cls(f"{_label(name)}-{_PROCESS}{next(_numbers):016x}")


# Dask takes a key apart at its last dash if what follows is hexadecimal. Counting is many times quicker than asking the
# kernel for random bytes, during which another thread takes the interpreter.
_PROCESS = "0" + uuid.uuid4().hex[:15]
KEY_MARK = f"-{_PROCESS}"
"""What the keys of this process's Dask tasks have in them."""
_numbers = count(1)


@lru_cache(maxsize=1024)
def _label(name: str) -> str:
    return safe_name(name)


@dataclass(slots=True)
class _Seen:
    ended: int = 0
    shortest_s: float = inf
    calls: float = 0.0
    total_s: float = 0.0
    largest_bytes: int = 0


class Durations:
    """How long the calls of each task lasted on the workers, and how large their results were.

    What was seen counts half at each report that follows. The first calls import, touch new memory and find a machine
    that is starting: they say little of the thousands after them.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def observe(self, name: str, calls: int, total_s: float, largest_bytes: int) -> None:
        """Add what a worker reported: number of calls, their seconds, the largest result in bytes."""
        seen = self._seen.setdefault(name, _Seen())
        seen.ended += calls
        seen.shortest_s = min(seen.shortest_s, total_s / max(calls, 1))
        seen.calls = seen.calls / 2 + calls
        seen.total_s = seen.total_s / 2 + total_s
        seen.largest_bytes = max(seen.largest_bytes, largest_bytes)

    def mean_s(self, name: str) -> float | None:
        """Return the mean duration, the newest counting most, or None if no call has ended."""
        seen = self._seen.get(name)
        return seen.total_s / seen.calls if seen is not None and seen.calls else None

    def calls_a_bundle(self, name: str) -> int:
        """Return how many calls of `name` make a bundle of the target length; 1: they are sent singly."""
        mean = self.mean_s(name)
        if mean is None or mean > SHORT_S or self._seen[name].largest_bytes > LARGEST_RESULT_BYTES:
            return 1
        return max(1, min(MOST_CALLS, int(TARGET_S / max(mean, 1e-7))))

    def most_sent(self, name: str, workers: int) -> int | None:
        """Return how many calls of `name` may be sent and not ended; None: any number.

        What was sent stays as it was bundled. So no more is than keeps the workers busy for a while, as long as the
        calls may turn out to be shorter: the first ones import modules and find cold caches.
        """
        seen, mean = self._seen.get(name), self.mean_s(name)
        if seen is None or mean is None:
            return 2 * workers
        is_long = seen.ended >= _AHEAD_CALLS * workers and seen.shortest_s > _AHEAD_S / 2
        if is_long or seen.largest_bytes > LARGEST_RESULT_BYTES:
            return None
        return workers * max(_AHEAD_CALLS, ceil(_AHEAD_S / max(mean, 1e-7)))


class _Bundling:
    """Bundles in the making: open ones take more calls, closed ones are ready to be sent."""

    def __init__(self) -> None:
        self.closed: list[Bundle] = []
        self._opened: dict[str, Bundle] = {}
        self._member: dict[Execution, Bundle] = {}  # of open bundles only

    def place(self, execution: Execution, size: int) -> None:
        """Put an execution into a bundle of at most `size`: that of what it needs, if that is one, or of its name."""
        needed = {id(b): b for e in execution.state.needs if (b := self._member.get(e)) is not None}
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
        """Close what is open; return all bundles, each after those that it needs."""
        for bundle in list(self._opened.values()):
            self._close(bundle)
        return self.closed


def plan(
    queue: CallQueue,
    durations: Durations,
    workers: int,
    in_flight: Counter[str],
    hold: Callable[[str], bool],
) -> list[Bundle]:
    """Take executions from the front of `queue` and return the bundles to send, each after those that it needs.

    Parameters
    ----------
    in_flight : Counter
        By task name, calls that were sent and have not ended; updated.
    hold : callable
        Tells whether calls of a name may still be held back, where as many are sent as `Durations.most_sent` says.
        Others behind them go on, but for those that need them.

    Notes
    -----
    Bundles cannot wait for each other in a circle: a bundle comes to depend on another only when that one is closed,
    and a closed bundle takes no more calls.
    """
    most_each = max(1, ceil(len(queue) / workers))
    most_sent: dict[str, int | None] = {}
    bundling = _Bundling()
    left: dict[Execution, None] = {}
    while queue and len(left) < _MOST_PASSED_BY:
        execution = queue.take()
        pending: Pending = execution.state
        name = execution.name
        if left and any(needed in left for needed in pending.needs):
            left[execution] = None
            continue
        if not pending.has_value:
            if name not in most_sent:
                most_sent[name] = durations.most_sent(name, workers)
            most = most_sent[name]
            if most is not None and in_flight[name] >= most:
                if hold(name):
                    left[execution] = None
                    continue
                most_sent[name] = None
            in_flight[name] += 1
        alone = pending.alone or pending.has_value
        bundling.place(execution, 1 if alone else min(most_each, durations.calls_a_bundle(name)))
    queue.put_back(left)
    return bundling.close_all()
