"""Which tasks are implementations of another one."""

from __future__ import annotations

from runmem.commands.needs import implement
from runmem.graph.implementations import implementations_of
from runmem.graph.task import task


def other(name):
    @implement(source_class=__name__, method=name)
    @task(returns=1)
    def same(x):
        return x

    return same


def test_a_task_has_those_that_name_it_in_order_and_none_twice():
    @task(returns=1)
    def original(x):
        return x

    first = other(original.__qualname__)
    assert implementations_of(original) == [first]
    assert implementations_of(first) == []
    again = other(original.__qualname__)  # the same function once more, as when its module is imported again
    assert implementations_of(original) == [again]


def test_a_method_is_named_with_its_class():
    class Numbers:
        @task(returns=1)
        def add(self, x):
            return x

    made = other(Numbers.add.__qualname__)
    assert implementations_of(Numbers.add) == [made]


def test_the_program_s_file_goes_by_its_name():
    def add(x):
        return x

    add.__module__, add.__qualname__ = "__main__", "add"
    found = task(returns=1)(add)

    @implement(source_class="test_implementations", method="add")
    @task(returns=1)
    def same(x):
        return x

    assert found.module == "test_implementations"
    assert implementations_of(found) == [same]
