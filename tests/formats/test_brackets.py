"""Which tasks get a bracket."""

from __future__ import annotations

import math
import random

from runmem.formats.brackets import BracketBudget
from runmem.units import MIB


def test_the_first_tasks_that_last_a_sampling_interval_are_admitted() -> None:
    budget = BracketBudget(budget=3, interval_s=0.1)
    assert [budget.admits(0.2, MIB) for _ in range(5)] == [True, True, True, False, False]


def test_after_the_budget_only_a_new_record_by_half_is_admitted() -> None:
    budget = BracketBudget(budget=1)
    assert budget.admits(1.0, 100 * MIB)
    assert not budget.admits(1.49, 149 * MIB)
    assert budget.admits(1.6, 0)
    assert budget.admits(0.5, 160 * MIB)
    assert not budget.admits(2.3, 230 * MIB)
    assert budget.admitted == 3


def test_a_task_shorter_than_the_interval_is_admitted_by_its_peak_alone() -> None:
    budget = BracketBudget(budget=10, interval_s=0.1)
    assert budget.admits(0.2, 100 * MIB)
    assert not budget.admits(0.01, 50 * MIB)
    assert budget.admits(0.01, 500 * MIB)


def test_an_unknown_peak_gets_no_bracket() -> None:
    budget = BracketBudget(budget=1)
    assert budget.admits(1.0, None)
    assert not budget.admits(1.0, None)


def test_the_number_of_brackets_grows_at_most_logarithmically() -> None:
    rising = [(0.1 * 1.0001**i, int(MIB * 1.0001**i)) for i in range(100_000)]  # every task is a new record
    mixed = rising[:]
    random.Random(2).shuffle(mixed)
    for tasks in (rising, mixed):
        budget = BracketBudget(budget=50, interval_s=0.1)
        admitted = sum(budget.admits(duration, peak) for duration, peak in tasks)
        records = math.log(tasks_range(tasks, 0), 1.5) + math.log(tasks_range(tasks, 1), 1.5)
        assert 50 <= admitted == budget.admitted <= 50 + records + 2


def tasks_range(tasks: list[tuple[float, int]], column: int) -> float:
    values = [task[column] for task in tasks]
    return max(values) / min(values)
