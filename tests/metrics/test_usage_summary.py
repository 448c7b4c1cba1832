from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pytest

from runmem.metrics.quantum_usage import QuantumUsage
from runmem.metrics.usage_summary import TaskUsage

GIB = 1024**3


def of(*usages: QuantumUsage | str) -> TaskUsage:
    found = TaskUsage("isr")
    found.add(usages)
    return found


def test_own_and_contaminated_peaks_are_counted_apart_with_the_statistics_of_numpy():
    sizes = [int(size) for size in np.random.default_rng(5).integers(GIB, 9 * GIB, 1001)]
    found = of(
        *(QuantumUsage(size, "own", 3.6) for size in sizes),
        *(QuantumUsage(size * 2, "contaminated", 1.0) for size in sizes),
        QuantumUsage(5, None, 1.0),
        QuantumUsage(6, "shared", 1.0),
    )
    own, contaminated, shared, unclear = found.statistics([4 * GIB])
    assert [peaks.owner for peaks in (own, contaminated, shared, unclear)] == [
        "own", "contaminated", "shared", "unclear"
    ]  # fmt: skip
    assert own.executions == 1001
    assert math.isclose(own.mean_bytes, statistics.fmean(sizes))
    assert own.median_bytes == statistics.median(sizes)
    assert (own.min_bytes, own.max_bytes) == (min(sizes), max(sizes))
    assert own.p95_bytes == np.percentile(sizes, 95, method="inverted_cdf")
    above = sum(size > 4 * GIB for size in sizes)
    assert own.above[0].executions == above
    assert math.isclose(own.above[0].wall_hours, above / 1000)
    assert contaminated.max_bytes == 2 * max(sizes)


def test_what_cannot_be_read_is_counted_and_the_first_reasons_are_kept():
    found = of(
        QuantumUsage(7, "own", None),
        QuantumUsage(None, None, 1.0),
        *(f"file {number}: torn" for number in range(30)),
    )
    assert (found.executions, found.damaged, found.without_peak, found.without_time) == (32, 30, 1, 1)
    document = json.loads(json.dumps(found.as_dict([5, 7])))
    assert document["problems"][0] == "file 0: torn"
    (peaks,) = document["peaks"]
    assert [(above["executions"], above["wall_hours"]) for above in peaks["above"]] == [(1, 0.0), (0, 0.0)]


def test_nothing_but_damage_has_no_statistics():
    assert of("torn").statistics([5]) == []
    assert of().as_dict()["executions"] == 0


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21])
def test_the_percentile_is_by_nearest_rank(count):
    (peaks,) = of(*(QuantumUsage(size, "own", 1.0) for size in range(1, count + 1))).statistics()
    assert peaks.p95_bytes == np.percentile(range(1, count + 1), 95, method="inverted_cdf")
