"""Whatever fails or is killed in a graph of calls: all that does not depend on it gives its value, and nothing hangs.

The cluster in this process bounds its steps, so that what would wait for ever fails instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
from grammar import PROGRAMS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from in_process import Schedule, SteppedSubmitter, stepped
from running import as_program

from runmem.errors import RunmemError, TaskKilledError
from runmem.execution import next_bundles
from runmem.execution.call_state import Bundle
from runmem.graph.synchronise import barrier, open_file, wait_on

TASKS = """
import os
from runmem import FILE_INOUT, INOUT, task

class Trouble(Exception):
    def __init__(self, number):
        super().__init__(number)
        self.number = number

@task(returns=1)
def value(number, fails, given):
    if fails:
        raise Trouble(number)
    return number + sum(int(item[0]) if hasattr(item, "shape") else item for item in given)

@task(counter=INOUT)
def written(counter, number, fails, given):
    if fails:
        raise Trouble(number)
    counter.append(number + sum(given))

@task(path=FILE_INOUT)
def file(path, number, fails, given):
    if fails:
        raise Trouble(number)
    with open(path, "a") as stream:
        stream.write(f"{number + sum(given)} ")
"""


class Node(NamedTuple):
    """A call: what it is, the earlier calls of which it takes the values, and whether it takes a large value too."""

    kind: str
    needs: tuple[int, ...]
    large: bool = False


Graph = list[Node]


class Expected(NamedTuple):
    """What a call gives: a number, or the error of any of these calls."""

    number: int
    roots: frozenset[int]


def expected(graph: Graph, failing: frozenset[int]) -> list[Expected]:
    """Return what each call of a graph is to give; a written object or file is told by what the call adds to it."""
    found: list[Expected] = []
    last: dict[str, frozenset[int]] = {}
    for number, (kind, needs, large) in enumerate(graph):
        roots = frozenset((number,)) if number in failing else frozenset()
        before = roots.union(*(found[need].roots for need in needs), last.get(kind, frozenset()))
        if number in failing and not before - roots:
            before = roots
        total = number + sum(found[need].number for need in needs) + (7 if large else 0)
        found.append(Expected(total, before))
        if kind != "value":
            last[kind] = before
    return found


def check(
    graph: Graph, failing: frozenset[int], killed: frozenset[int], schedule: Schedule, mistaken: int | None = None
) -> None:
    """Run a graph in which some calls raise and others kill their worker; check what each gives.

    `mistaken`: a call with which the submitter itself makes a mistake.
    """
    told = expected(graph, failing | killed | (frozenset() if mistaken is None else {mistaken}))
    with (
        stepped(schedule, frozenset(number + 1 for number in killed)) as submitter,
        mistakes_with(mistaken),
        running(submitter) as names,
    ):
        check_all(graph, told, made(graph, names, failing), failing)
        while True:  # every error that is left was one of those that the graph has
            try:
                barrier()
                break
            except (names["Trouble"], RunmemError):
                continue
        assert not submitter.calls.queue
        assert not submitter.calls.open
        assert not submitter.calls.sent
        assert not any(submitter.calls.in_flight.values())


@contextmanager
def mistakes_with(number: int | None) -> Iterator[None]:
    """Let the submitter fail to describe one call to Dask."""
    right = next_bundles.dask_task

    def wrong(bundle: Bundle, *others: Any) -> Any:
        if number is not None and any(execution.task_id == number + 1 for execution in bundle.executions):
            raise LookupError("made for the test")
        return right(bundle, *others)

    with mock.patch.object(next_bundles, "dask_task", wrong):
        yield


@contextmanager
def running(submitter: SteppedSubmitter) -> Iterator[dict[str, Any]]:
    """Give the names of the program with the tasks, in a folder that has the file."""
    with as_program(submitter) as names:
        exec(compile(TASKS, "queue.py", "exec"), names)
        before = os.getcwd()
        os.chdir(names["folder"])
        try:
            Path("log.txt").write_text("")
            yield names
        finally:
            os.chdir(before)


def made(graph: Graph, names: dict[str, Any], failing: frozenset[int]) -> dict[str, Any]:
    """Call the tasks of a graph; return the futures by number, and the written object."""
    made: dict[Any, Any] = {"counter": []}
    for number, (kind, needs, large) in enumerate(graph):
        given: list[Any] = [made[need] for need in needs]
        if kind == "value":
            given += [np.full(40_000, 7)] if large else []
            made[number] = names["value"](number, number in failing, given)
        else:
            target = made["counter"] if kind == "written" else "log.txt"
            names[kind](target, number, number in failing, given + [7] * large)
            made[number] = None
    return made


def check_all(graph: Graph, told: list[Expected], made: dict[Any, Any], failing: frozenset[int]) -> None:
    for number, node in enumerate(graph):
        if node.kind == "value":
            gives(told[number], lambda future=made[number]: wait_on(future), told[number].number, failing)
    for kind, look in (("written", lambda: wait_on(made["counter"])), ("file", lambda: open_file("log.txt").read())):
        of_kind = [told[number] for number, node in enumerate(graph) if node.kind == kind]
        if of_kind:
            numbers = [item.number for item in of_kind]
            wanted: Any = numbers if kind == "written" else "".join(f"{number} " for number in numbers)
            gives(of_kind[-1], look, wanted, failing)


def gives(told: Expected, look: Any, wanted: Any, failing: frozenset[int]) -> None:
    """Check that what is looked at is as wanted, or raises the very error of a call that it depends on."""
    if not told.roots:
        assert look() == wanted
        return
    with pytest.raises(Exception, match=".") as caught:
        look()
    error = caught.value
    if isinstance(error, TaskKilledError):
        assert any(f"(call {number + 1})" in str(error) for number in told.roots - failing)
    elif isinstance(error, RunmemError):
        assert "runmem itself made a mistake" in str(error)
        assert "LookupError: made for the test" in str(error)
        assert any(f"(call {number + 1})" in str(error) for number in told.roots - failing)
    else:
        assert type(error).__name__ == "Trouble"
        assert error.number in told.roots & failing  # type: ignore[attr-defined]


def chain(kind: str, length: int) -> Graph:
    return [Node(kind, (number - 1,) if number and kind == "value" else ()) for number in range(length)]


SHAPES: dict[str, Graph] = {
    "a chain": chain("value", 5),
    "a chain over an object": chain("written", 5),
    "a chain over a file": chain("file", 5),
    "a tree": [Node("value", ()) for _ in range(4)] + [Node("value", n) for n in ((0, 1), (2, 3), (4, 5))],
    "a diamond": [Node("value", n) for n in ((), (0,), (0,), (1, 2), ())],
    "large values": [Node("value", (), True), Node("value", (0,), True), Node("value", (1,)), Node("value", (), True)],
    "all kinds": [
        Node("value", ()), Node("written", ()), Node("file", ()), Node("value", (0,)), Node("written", (3,), True),
        Node("file", (3,)), Node("value", (0, 3), True),
    ],
}  # fmt: skip
BUNDLED = Schedule(seed=1, workers=1, short=1.0, eager=0.0)
ONE_BY_ONE = Schedule(seed=2, workers=2, short=0.0, eager=1.0)
PARTLY = Schedule(seed=3, workers=2, short=0.5, known=0.5, deaths=0.2)


@pytest.mark.parametrize("schedule", [BUNDLED, ONE_BY_ONE, PARTLY], ids=["bundled", "one by one", "partly"])
@pytest.mark.parametrize("graph", SHAPES.values(), ids=SHAPES)
def test_a_call_that_fails_or_is_killed_anywhere_costs_only_what_depends_on_it(
    graph: Graph, schedule: Schedule
) -> None:
    check(graph, frozenset(), frozenset(), schedule)
    for number in range(len(graph)):
        one = frozenset((number,))
        check(graph, one, frozenset(), schedule)
        check(graph, frozenset(), one, schedule)
        for other in range(len(graph)):
            if other != number:
                check(graph, one, frozenset((other,)), schedule)


@pytest.mark.parametrize("schedule", [BUNDLED, ONE_BY_ONE, PARTLY], ids=["bundled", "one by one", "partly"])
@pytest.mark.parametrize("graph", SHAPES.values(), ids=SHAPES)
def test_a_mistake_of_our_own_names_itself_and_costs_only_what_depends_on_it(graph: Graph, schedule: Schedule) -> None:
    for number in range(len(graph)):
        check(graph, frozenset(), frozenset(), schedule, number)


@st.composite
def graphs(draw: Any) -> Graph:
    graph: Graph = []
    for number in range(draw(st.integers(1, 14))):
        values = [before for before in range(number) if graph[before].kind == "value"]
        needs = draw(st.lists(st.sampled_from(values), max_size=3, unique=True)) if values else []
        if values and draw(st.booleans()):
            needs = [values[-1]]
        kind = draw(st.sampled_from(["value"] * 6 + ["written", "file"]))
        graph.append(Node(kind, tuple(needs), draw(st.integers(0, 5)) == 5))
    return graph


SCHEDULES = st.builds(
    Schedule,
    seed=st.integers(0, 2**20),
    workers=st.integers(1, 3),
    short=st.sampled_from([0.0, 0.5, 1.0]),
    known=st.sampled_from([1.0, 0.3]),
    deaths=st.sampled_from([0.0, 0.2]),
    eager=st.sampled_from([0.0, 0.2, 1.0]),
)


@settings(
    max_examples=PROGRAMS, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(graphs(), st.data())
def test_calls_that_fail_or_are_killed_in_any_graph_cost_only_what_depends_on_them(graph: Graph, data: Any) -> None:
    numbers = st.frozensets(st.sampled_from(range(len(graph))), max_size=3)
    failing, killed = data.draw(numbers, "failing"), data.draw(numbers, "killed")
    check(graph, failing, killed - failing, data.draw(SCHEDULES, "schedule"))
