from __future__ import annotations

import math
import random

import pytest

from runmem.reports.task_rows import percentile


def test_it_is_the_smallest_value_that_so_many_percent_do_not_exceed():
    assert percentile(range(1, 101), 95) == 95
    assert percentile(range(1, 21), 95) == 19
    assert percentile([5, 1, 3], 50) == 3


def test_of_few_values_the_95th_percentile_is_the_maximum():
    assert percentile(range(19), 95) == 18


def test_it_is_always_a_measured_value_that_covers_the_share():
    values = [random.Random(7).randrange(1000) for _ in range(137)]
    for percent in (1, 10, 50, 95, 99.5, 100):
        found = percentile(values, percent)
        assert found in values
        assert sum(value <= found for value in values) >= math.ceil(len(values) * percent / 100)
        assert sum(value < found for value in values) < math.ceil(len(values) * percent / 100)


def test_no_values_have_no_percentile():
    assert percentile([], 95) is None


@pytest.mark.parametrize("percent", [0, -1, 101, math.nan])
def test_a_percentage_out_of_range_is_refused(percent):
    with pytest.raises(ValueError, match="not a percentage"):
        percentile([1], percent)
