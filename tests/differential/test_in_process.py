"""Generated programs give the same on a cluster, whatever it does, as one call after the other."""

from __future__ import annotations

import pytest
from grammar import PROGRAMS, programs
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from in_process import Schedule, stepped
from running import Outcome, run_sequentially, run_with

SCHEDULES = st.builds(
    Schedule,
    seed=st.integers(0, 2**20),
    workers=st.integers(1, 2),
    short=st.sampled_from([0.0, 0.5, 1.0]),
    known=st.sampled_from([1.0, 0.3]),
    deaths=st.sampled_from([0.0, 0.1, 0.3]),
    eager=st.sampled_from([0.0, 0.3, 1.0]),
    kept_bytes=st.sampled_from([0, 2**26]),
)


def on_the_cluster(source: str, schedule: Schedule) -> Outcome:
    with stepped(schedule) as submitter:
        return run_with(submitter, source)


@pytest.mark.timeout(900)  # a quarter of a minute, where nothing else runs
@settings(
    max_examples=PROGRAMS, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(programs(), st.lists(SCHEDULES, min_size=1, max_size=2))
def test_a_program_gives_the_same_on_a_cluster(source: str, schedules: list[Schedule]) -> None:
    note(source)
    expected = run_sequentially(source)
    for schedule in schedules:
        note(str(schedule))
        assert on_the_cluster(source, schedule) == expected


CAUGHT = """
from runmem import barrier, task, wait_on

@task(returns=1)
def bad(x): raise ValueError(x)

@task(returns=1)
def inc(x): return x + 1

first = bad(1)
last = inc(inc(inc(first)))
other = bad(2)
try:
    {waits}
except ValueError as error:
    print("caught")
{then}
"""


@pytest.mark.parametrize("eager", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("waits", "then", "code"),
    [
        ("wait_on(first, other)", "", 0),
        ("wait_on(first, other)", "more = inc(last)", 0),
        ("wait_on(last)", "wait_on(inc(1))", 1),
        ("barrier()", "", 1),
        ("wait_on(last, other)", "barrier()", 0),
    ],
)
def test_an_error_that_the_program_has_caught_is_not_one_that_it_has_not_seen(
    waits: str, then: str, code: int, eager: float
) -> None:
    source = CAUGHT.format(waits=waits, then=then)
    assert run_sequentially(source) == Outcome("caught\n", code)
    for seed in range(10):
        assert on_the_cluster(source, Schedule(seed, eager=eager, short=0.5)) == Outcome("caught\n", code)


SHARED = """
import numpy
from runmem import task, wait_on

grid = numpy.zeros(100_000)
small = numpy.zeros(10)

@task(returns=1)
def whole(): return [grid, small]

@task(returns=2)
def two(): return grid[:50_000], (grid[50_000:], small)

@task(returns=1)
def given(values): return {"values": values}

lists, parts, passed = whole(), two(), given(grid)
grid += 1
small += 1
lists, parts, passed = wait_on(lists, parts, passed)
print(lists[0].sum(), lists[1].sum(), parts[0].sum(), parts[1][0].sum(), parts[1][1].sum(), passed["values"].sum())
lists[0][:] = 2
print(grid.sum(), wait_on(whole())[0].sum())
"""


def test_a_result_is_what_it_was_at_the_call_when_the_program_changes_what_the_task_returned() -> None:
    expected = Outcome("0.0 0.0 0.0 0.0 0.0 0.0\n100000.0 100000.0\n", 0)
    assert run_sequentially(SHARED) == expected
    for seed in range(5):
        assert on_the_cluster(SHARED, Schedule(seed, eager=0.5, short=0.5)) == expected


RETRIED = """
import os, tempfile
from pathlib import Path
from runmem import task, wait_on

place = tempfile.mkdtemp(dir=folder)

@task(returns=1, on_failure="RETRY")
def raise_once(x):
    tried = Path(place, "tried")
    if not tried.exists():
        tried.touch()
        raise ValueError(x)
    return x + 1

@task(returns=1)
def inc(x): return x + 1

print(wait_on(inc(inc(raise_once(inc(1))))))
"""


def test_a_call_that_shares_a_bundle_with_one_that_is_tried_again_runs_after_it() -> None:
    expected = Outcome("5\n", 0)
    assert run_sequentially(RETRIED) == expected
    for seed in range(10):
        assert on_the_cluster(RETRIED, Schedule(seed, eager=0.0, short=1.0)) == expected
