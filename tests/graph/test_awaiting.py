"""`async def` tasks run to their end, and `await` gives the value of a future."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import warnings
from typing import Any

import pytest

from runmem.graph.future import Future
from runmem.graph.synchronise import wait_on
from runmem.graph.task import task

ORDER: contextvars.ContextVar[str] = contextvars.ContextVar("order", default="none")


@task(returns=1)
async def plus_one(x):
    await asyncio.sleep(0)
    return x + 1


@task()
async def twice_plus_one(x) -> int:
    first, second = await asyncio.gather(plus_one(x), plus_one(x))
    return first + second


@task(returns=2)
async def both(x):
    return x, x + 1


@task()
async def nothing(x):
    x.append(1)


@task(returns=1)
async def fails(error):
    await asyncio.sleep(0)
    raise error


@task(returns=1)
def plain(x):
    return x * 10


class Asks:
    def __init__(self, base):
        self.base = base

    async def __call__(self, x):
        return self.base + x

    @task(returns=1, target_direction="IN")
    async def method(self, x):
        return self.base * x

    @staticmethod
    @task(returns=1)
    async def static(x):
        return x


def collected(function):
    @functools.wraps(function)
    def wrapper(x):
        return function(x)

    return wrapper


CALLS = {
    "function": (lambda: plus_one(1), 2),
    "calls others": (lambda: twice_plus_one(1), 4),
    "method": (lambda: Asks(3).method(2), 6),
    "static": (lambda: Asks.static(2), 2),
    "partial": (lambda: task(returns=1)(functools.partial(plus_one.function, 4))(), 5),
    "callable object": (lambda: task(returns=1)(Asks(1))(2), 3),
    "in a decorator": (lambda: task(returns=1)(collected(plus_one.function))(2), 3),
    "no value": (lambda: nothing([]), None),
    "in containers": (lambda: {"a": [plus_one(1), (plus_one(2), 7)]}, {"a": [2, (3, 7)]}),
}


@pytest.mark.parametrize(("call", "expected"), CALLS.values(), ids=CALLS.keys())
def test_wait_on_gives_the_value_with_and_without_a_program(start_program: Any, call: Any, expected: Any) -> None:
    assert wait_on(call()) == expected
    start_program()
    made = call()
    assert isinstance(made, (Future, dict))
    assert wait_on(made) == expected


def test_several_values_come_as_many(start_program: Any) -> None:
    assert wait_on(both(1)) == (1, 2)
    start_program()
    assert wait_on(both(1)) == [1, 2]


def test_an_async_task_without_a_program_is_a_coroutine_that_can_be_awaited() -> None:
    async def main():
        return await plus_one(await plus_one(1))

    assert asyncio.run(main()) == 3


def test_a_coroutine_that_is_found_twice_runs_once() -> None:
    calls = []

    @task(returns=1)
    async def counts():
        calls.append(1)
        return len(calls)

    made = counts()
    assert wait_on([made, made, {"again": made}]) == [1, 1, {"again": 1}]
    items = [1, 2]
    items.append(items)
    assert wait_on(items) is items


def test_waiting_inside_an_event_loop_works_without_a_program_too() -> None:
    async def main():
        return wait_on([plus_one(1), plus_one(2)])

    assert asyncio.run(main()) == [2, 3]


class OwnInterrupt(BaseException):
    pass


@pytest.mark.parametrize("cls", [ValueError, asyncio.CancelledError, OwnInterrupt])
@pytest.mark.parametrize("call", [lambda error: wait_on(fails(error)), fails.run], ids=["waited for", "run"])
def test_an_exception_of_an_async_task_is_raised_from_its_line(call: Any, cls: type[BaseException]) -> None:
    with pytest.raises(cls) as raised:
        call(cls("why"))
    frames = [frame.name for frame in raised.traceback]
    assert frames[-1] == "fails"
    assert "run_until_complete" not in frames


def test_a_task_sees_the_context_and_keeps_its_changes_to_itself() -> None:
    @task(returns=1)
    async def looks():
        before = ORDER.get()
        ORDER.set("changed")
        return before

    token = ORDER.set("outside")
    try:
        assert looks.run() == "outside"
        assert ORDER.get() == "outside"
    finally:
        ORDER.reset(token)


def test_what_an_async_task_leaves_running_is_cancelled_with_it() -> None:
    ended = []

    @task(returns=1)
    async def leaves():
        async def endless():
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append(1)

        left = asyncio.create_task(endless())
        await asyncio.sleep(0)
        return left.done()

    assert leaves.run() is False
    assert ended == [1]


def test_futures_are_awaited_in_every_way_of_asyncio(submitter: Any) -> None:
    async def main():
        one = await plain(1)
        gathered = await asyncio.gather(plain(2), plus_one(2), plain(plain(3)))
        waited = await asyncio.wait_for(plain(4), timeout=60)
        same = plain(5)
        again = [await same, await same]
        done = [await each for each in asyncio.as_completed([plain(6), plain(7)])]
        async with asyncio.TaskGroup() as group:
            made = [group.create_task(_awaited(plain(number))) for number in (8, 9)]
        return one, gathered, waited, again, sorted(done), [each.result() for each in made]

    assert asyncio.run(main()) == (10, [20, 3, 300], 40, [50, 50], [60, 70], [80, 90])
    assert len(submitter.calls) == 11


async def _awaited(future):
    return await future


def test_the_event_loop_goes_on_while_futures_are_awaited(submitter: Any) -> None:
    steps = []

    async def main():
        async def ticks():
            while True:
                steps.append(1)
                await asyncio.sleep(0)

        other = asyncio.create_task(ticks())
        values = await asyncio.gather(*[plain(number) for number in range(300)])
        other.cancel()
        return values

    assert asyncio.run(main()) == [number * 10 for number in range(300)]
    assert len(steps) > 1


@pytest.mark.parametrize("error", [ValueError("why"), KeyError("k"), StopIteration(3), asyncio.CancelledError("x")])
def test_await_raises_what_the_task_raised(submitter: Any, error: BaseException) -> None:
    @task(returns=1)
    def raises():
        raise error

    async def main():
        good = plain(1)
        try:
            await raises()
        except BaseException as raised:
            return type(raised), await good
        return None

    expected = RuntimeError if isinstance(error, StopIteration) else type(error)  # as any coroutine that raises it
    assert asyncio.run(main()) == (expected, 10)


def test_one_failure_among_many_is_that_of_its_own(submitter: Any) -> None:
    @task(returns=1)
    def odd(x):
        if x % 2:
            raise ValueError(x)
        return x

    async def main():
        return await asyncio.gather(*[odd(number) for number in range(6)], return_exceptions=True)

    found = asyncio.run(main())
    assert found[::2] == [0, 2, 4]
    assert [each.args for each in found[1::2]] == [(1,), (3,), (5,)]


def test_what_is_given_up_can_be_awaited_again(submitter: Any) -> None:
    async def main():
        future = plain(1)
        waiting = asyncio.create_task(_awaited(future))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return await future

    assert asyncio.run(main()) == 10
    assert asyncio.run(main()) == 10


def test_a_future_of_a_program_that_has_ended_says_so(start_program: Any) -> None:
    from runmem.graph.current import set_current_program

    start_program()
    future = plain(1)
    set_current_program(None)
    with pytest.raises(RuntimeError, match="of plain.*does not run any more"):
        asyncio.run(_awaited(future))


def test_no_coroutine_is_left_behind(submitter: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert wait_on(plus_one(1)) == 2
        gc.collect()
