from __future__ import annotations

import pytest

from runmem.pipe_base.peak_owner import owner_of_peak, owners_of_peaks


@pytest.mark.parametrize(
    ("size", "start", "method", "owner"),
    [
        (9, 5, None, "own"),
        (9, 9, None, "contaminated"),
        (9, None, None, None),
        (9, True, None, None),
        (9, 9, "hwm", "own"),
        (9, 9, "sampled", "own"),
        (9, 5, "hwm, shared", "shared"),
        (9, None, "contaminated", "contaminated"),
        (9, 5, "contaminated", "own"),
    ],
)
def test_a_peak_that_rose_during_the_call_is_its_own(size, start, method, owner):
    assert owner_of_peak(size, start, method) == owner


def test_starts_and_methods_that_are_not_one_for_each_call_are_not_used():
    assert owners_of_peaks([5, 5], [1], []) == [None, None]
    assert owners_of_peaks([5, 5], [1, 5], ["hwm"]) == ["own", "contaminated"]
