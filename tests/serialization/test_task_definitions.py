"""Definitions of a task that calls tasks."""

from __future__ import annotations

from types import FunctionType

import pytest

from runmem.errors import ResultError
from runmem.serialization.definitions import NoDefinitions, ProgramDefinitions, current_definitions
from runmem.serialization.task_definitions import TaskDefinitions, using


def made_here() -> FunctionType:
    names: dict[str, FunctionType] = {}
    exec("def local(): pass", {"__name__": "__main__"}, names)  # of no module
    return names["local"]


def test_definitions_of_the_program_keep_their_numbers_and_others_get_new_ones() -> None:
    copy = ProgramDefinitions()
    first, second = made_here(), made_here()
    number = copy.number_of(first)
    one, other = TaskDefinitions(copy), TaskDefinitions(NoDefinitions())
    assert one.number_of(first) == number
    assert one.object_of(number or 0) is first
    copy_s_next = (number or 0) + 1
    mine, theirs = other.number_of(first), other.number_of(second)
    assert None not in (mine, theirs)
    assert len({number, copy_s_next, mine, theirs}) == 4
    assert other.object_of(theirs or 0) is second
    assert TaskDefinitions(NoDefinitions()).number_of(first) not in (mine, theirs)


def test_a_definition_that_is_nowhere_is_named_as_gone() -> None:
    with pytest.raises(ResultError, match="deleted meanwhile"):
        TaskDefinitions(NoDefinitions()).object_of(7)


def test_numbers_refer_to_them_inside_a_block() -> None:
    before, own = current_definitions(), TaskDefinitions(NoDefinitions())
    with using(own):
        assert current_definitions() is own
    assert current_definitions() is before
