from __future__ import annotations

import pytest

from runmem.trials.report.statistics import linear_fit, spread_of, student_quantile


def test_the_spread_of_values():
    spread = spread_of([2.0, 4.0, 6.0])
    assert (spread.count, spread.mean, spread.deviation, spread.least, spread.highest) == (3, 4.0, 2.0, 2.0, 6.0)


def test_one_value_has_no_deviation_and_none_no_spread():
    assert spread_of([3.0]).deviation is None
    assert spread_of([]) is None


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (10, 2.2281), (30, 2.0423), (200, 1.9719)],
)
def test_students_quantiles_are_those_of_the_tables(freedom, quantile):
    assert student_quantile(freedom) == pytest.approx(quantile, abs=1e-4)


def test_no_degree_of_freedom_is_refused():
    with pytest.raises(ValueError, match="no 0 degrees"):
        student_quantile(0)


def test_a_fit_gives_slopes_with_their_intervals():
    # Anscombe's first set: slope 0.500, standard error 0.1179, intercept 3.000, R squared 0.667 (Anscombe 1973)
    x = [10.0, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5]
    y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]
    fit = linear_fit({"x": x}, y)
    assert fit.intercept == pytest.approx(3.0001, abs=1e-3)
    assert fit.explained == pytest.approx(0.6665, abs=1e-3)
    (slope,) = fit.slopes
    assert slope.value == pytest.approx(0.5001, abs=1e-3)
    assert (slope.low, slope.high) == pytest.approx((0.5001 - 2.2622 * 0.1179, 0.5001 + 2.2622 * 0.1179), abs=1e-3)
    assert slope.is_seen


def test_the_effects_of_two_variables_are_separated():
    points = [(a, b) for a in (1.0, 2.0, 4.0) for b in (1.0, 3.0)]
    fit = linear_fit({"a": [a for a, _ in points], "b": [b for _, b in points]}, [5 + 2 * a - b for a, b in points])
    assert [slope.value for slope in fit.slopes] == pytest.approx([2.0, -1.0])


def test_two_points_have_a_slope_without_an_interval():
    (slope,) = linear_fit({"x": [1.0, 2.0]}, [1.0, 3.0]).slopes
    assert (slope.value, slope.low, slope.is_seen) == (pytest.approx(2.0), None, False)


def test_variables_that_go_together_determine_nothing():
    assert linear_fit({"a": [1.0, 2.0, 3.0], "b": [2.0, 4.0, 6.0]}, [1.0, 2.0, 3.0]) is None
