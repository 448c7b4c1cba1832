"""Statistics of repeated measurements, and a linear fit with its confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Fit", "Slope", "Spread", "linear_fit", "spread_of", "student_quantile"]

_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Spread:
    """The values of one quantity: their number, mean, standard deviation (None for one value), minimum and maximum."""

    count: int
    mean: float
    deviation: float | None
    least: float
    highest: float


def spread_of(values: Sequence[float]) -> Spread | None:
    """Return the spread of the values, None for no values. The standard deviation is of a sample (n - 1)."""
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    deviation = math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None
    return Spread(len(values), mean, deviation, min(values), max(values))


@dataclass(frozen=True, slots=True)
class Slope:
    """Change of a quantity per unit of a variable, with its 95 % interval (None without a degree of freedom)."""

    variable: str
    value: float
    low: float | None
    high: float | None

    @property
    def is_seen(self) -> bool:
        """Whether the interval is known and excludes 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, slots=True)
class Fit:
    """A least-squares fit ``intercept + sum(slope * variable)`` to `count` measurements.

    `explained` is the share of the variance that it explains (R squared), 1 if there is none. A low one means that the
    dependence is not linear, such as memory proportional to the product of two variables.
    """

    intercept: float
    slopes: list[Slope]
    count: int
    explained: float


def linear_fit(variables: Mapping[str, Sequence[float]], values: Sequence[float]) -> Fit | None:
    """Fit `values` to all variables at once; return None if they do not determine the slopes.

    Parameters
    ----------
    variables : dict of str to sequence of float
        Name of a variable to its value in each measurement.

    Notes
    -----
    The intervals are Student's, 95 %. Assumptions: the dependence is linear, the errors are independent and have equal
    variance.
    """
    matrix = np.column_stack([np.ones(len(values)), *(np.asarray(column, float) for column in variables.values())])
    wanted = np.asarray(values, float)
    if not variables or np.linalg.matrix_rank(matrix) < matrix.shape[1]:
        return None
    coefficients = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
    freedom = len(values) - matrix.shape[1]
    half = [math.nan] * matrix.shape[1]
    if freedom > 0:
        variance = float(np.sum((wanted - matrix @ coefficients) ** 2)) / freedom
        errors = np.sqrt(variance * np.diag(np.linalg.inv(matrix.T @ matrix)))
        half = [student_quantile(freedom) * float(error) for error in errors]
    slopes = [
        Slope(name, float(coefficients[at]), *_interval(float(coefficients[at]), half[at]))
        for at, name in enumerate(variables, 1)
    ]
    total = float(np.sum((wanted - wanted.mean()) ** 2))
    left = float(np.sum((wanted - matrix @ coefficients) ** 2))
    return Fit(float(coefficients[0]), slopes, len(values), 1.0 if total == 0 else 1 - left / total)


def _interval(value: float, half: float) -> tuple[float | None, float | None]:
    return (None, None) if math.isnan(half) else (value - half, value + half)


def student_quantile(freedom: int, level: float = _LEVEL) -> float:
    """Return t such that a value of Student's distribution lies between -t and t with probability `level`.

    For integer degrees of freedom the probability is a finite series (Abramowitz and Stegun, 26.7.3 and 26.7.4).

    Raises ValueError if `freedom` is below 1.
    """
    if freedom < 1:
        raise ValueError(f"Student's distribution has no {freedom} degrees of freedom")
    low, high = 0.0, 1.0
    while _within(high, freedom) < level:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return (low + high) / 2


def _within(t: float, freedom: int) -> float:
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    term = cosine if freedom % 2 else 1.0
    total = term if freedom > 1 else 0.0
    for step in range(3 if freedom % 2 else 2, freedom, 2):
        term *= (step - 1) / step * cosine**2
        total += term
    return 2 / math.pi * (angle + sine * total) if freedom % 2 else sine * total
