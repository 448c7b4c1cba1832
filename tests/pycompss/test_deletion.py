"""What `compss_delete_object` answers."""

from __future__ import annotations

import pytest

from runmem.graph.current import set_current_program
from runmem.graph.program import Program
from runmem.graph.task import task
from runmem.pycompss.api.api import compss_delete_object


@task(returns=1)
def first_of(values):
    return values[0]


@pytest.fixture
def _program(tmp_path):
    class Submitter:
        """Takes calls and runs none."""

        def submit(self, call, resolve):
            """Do nothing."""

    set_current_program(Program(Submitter(), lambda: tmp_path))
    yield
    set_current_program(None)


@pytest.mark.usefixtures("_program")
def test_each_object_has_an_answer():
    used, never = [1], [2]
    future = first_of(used)
    assert compss_delete_object(used) is True  # a list that a task was given as a whole
    assert compss_delete_object(used) == [False]
    assert compss_delete_object(never, future) == [[False], True]
    future, other = first_of(used), first_of(never)
    assert compss_delete_object([future, (other, future, 3)]) == [True, [True, False, False]]
    assert compss_delete_object([future, [other]]) == [False, [False]]
    assert compss_delete_object([]) == []
    circle = [first_of(used)]
    circle.append(circle)
    assert compss_delete_object(circle) == [True, False]


def test_without_a_program_all_are_deleted():
    assert compss_delete_object([1, [2]], 3) == [[True, [True]], True]
