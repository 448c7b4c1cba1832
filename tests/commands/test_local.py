"""`@local`: a future that it was given is its value from then on, wherever the program refers to it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from runmem.commands.synchronous import local
from runmem.graph.current import set_current_program
from runmem.graph.future import Future
from runmem.graph.program import Program
from runmem.graph.task import task


class _Submitter:
    """Runs each call when its value is fetched."""

    def __init__(self):
        self.fetched = 0

    def submit(self, call, resolve):
        """Keep the call."""
        call.execution.state = call

    def fetch(self, versions, deadline=None):
        """Run the calls."""
        self.fetched += len(versions)
        calls = [version.execution.state for version in versions]
        return [call.task.function(*call.args, **call.kwargs) for call in calls]


@pytest.fixture
def submitter(tmp_path):
    submitter = _Submitter()
    set_current_program(Program(submitter, lambda: tmp_path))
    yield submitter
    set_current_program(None)


@task(returns=list)
def more(values):
    return [value + 1 for value in values]


@local
def total(values, *others, **more):
    return sum(values) + sum(map(sum, others)) + sum(map(sum, more.values()))


class Holder:
    pass


future_of_module: object = None


def test_all_references_to_a_future_become_its_value(submitter):
    global future_of_module
    values = future_of_module = more([1, 2])
    named = more([5])
    holder, space, kept, table = Holder(), SimpleNamespace(values=values), [0, values], {"values": values}
    holder.values = values

    def closed_over():
        return values

    assert total(values, named=named) == 5 + 6
    assert values == [2, 3]
    assert named == [6]
    places = [holder.values, space.values, kept[1], table["values"], closed_over(), future_of_module]
    assert all(each is values for each in places)
    assert total(values, values) == 10
    assert submitter.fetched == 2


def test_those_in_a_tuple_stay_futures(submitter):
    pair = (more([1]), 2)
    assert total(pair[0]) == 2
    assert type(pair[0]) is Future
