"""Waiting for futures inside ``async def``: one thread of ours waits for all, and event loops go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from runmem.graph.current import current_program

if TYPE_CHECKING:
    from runmem.graph.future import Future
    from runmem.graph.program import Program

__all__ = ["value_of"]

_AWAITED_POLL_S = 0.005

Outcome = tuple[bool, Any]  # whether the task ended well; its value or its exception


async def value_of(future: Future) -> Any:
    """Return the value of a future, or raise what the task raised."""
    program = current_program()
    if program is None:
        raise RuntimeError(f"{future!r} is of a program that does not run any more in this process.")
    if program.waits_in_its_thread:  # the calls that it waits for go on all the same
        return program.wait_on((future,))
    loop = asyncio.get_running_loop()
    awaited = _Awaited(future, program, loop, loop.create_future())
    _waiter.add(awaited)
    good, value = await awaited.outcome
    if good:
        return value
    try:
        raise value
    finally:
        del value  # a circle through its traceback would keep what it holds


class _Awaited(NamedTuple):
    future: Future
    program: Program
    loop: asyncio.AbstractEventLoop
    outcome: asyncio.Future[Outcome]

    @property
    def is_open(self) -> bool:
        """Whether the coroutine still waits."""
        return not self.outcome.done() and not self.loop.is_closed()

    def deliver(self, outcome: Outcome) -> None:
        """Give the outcome to the coroutine, unless it has stopped waiting."""

        def give() -> None:
            if not self.outcome.done():
                self.outcome.set_result(outcome)

        try:
            self.loop.call_soon_threadsafe(give)
        except RuntimeError:  # the loop is closed
            return


class _Waiter:
    """Waits for awaited futures in a thread, which runs as long as there are any."""

    def __init__(self) -> None:
        self._waiting: list[_Awaited] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, awaited: _Awaited) -> None:
        """Wait for a future too."""
        with self._lock:
            self._waiting.append(awaited)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="runmem-awaiting", daemon=True)
                self._thread.start()

    def _look(self) -> None:
        pause = threading.Event()
        while True:
            with self._lock:
                self._waiting = [
                    each for each in self._waiting if not each.outcome.done() and not each.loop.is_closed()
                ]
                if not self._waiting:
                    self._thread = None
                    return
                waiting = list(self._waiting)
            ended = [each for each in waiting if _has_ended(each)]
            if not ended:
                pause.wait(_AWAITED_POLL_S)
                continue
            for awaited, outcome in zip(ended, _outcomes(ended), strict=True):
                awaited.deliver(outcome)
            delivered = {id(each) for each in ended}
            with self._lock:
                self._waiting = [each for each in self._waiting if id(each) not in delivered]


def _has_ended(awaited: _Awaited) -> bool:
    try:
        return awaited.program.has_ended(awaited.future)
    except Exception:  # fetching the value raises the reason
        return True


def _outcomes(ended: Sequence[_Awaited]) -> list[Outcome]:
    """Return the outcomes of tasks that have ended, fetched together if none failed, else one by one."""
    if len({id(each.program) for each in ended}) == 1:
        try:
            values = ended[0].program.wait_on(([each.future for each in ended],))
        except BaseException:  # the outcome of each is fetched below
            pass
        else:
            return [(True, value) for value in values]
    return [_outcome(each) for each in ended]


def _outcome(ended: _Awaited) -> Outcome:
    try:
        return True, ended.program.wait_on((ended.future,))
    except BaseException as error:  # whatever a task raised
        return False, error


_waiter = _Waiter()
