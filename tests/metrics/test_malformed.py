"""For any metadata a metric task returns a measurement or raises one of its two errors."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runmem.metrics.memory_metric import MemoryMetricTask
from runmem.metrics.metric_task import MetadataMetricTask
from runmem.metrics.timing_metric import CpuTimingMetricTask, TimingMetricTask
from runmem.pipe_base.errors import MetricComputationError, NoWorkFound

GOOD: dict[str, Any] = {
    "runEndMaxResidentSetSize": [5], "runStartUtc": ["2026-01-01T00:00:00"], "runEndUtc": ["2026-01-01T00:00:01"],
    "runStartCpuTime": [1.0], "runEndCpuTime": [2.0], "__version__": 1,
}  # fmt: skip
BESIDE = {"runExecutions": 1, "runPeaksMissing": 0, "runFailed": 0, "runPeakMethod": ["hwm"], "platform": "linux"}
BAD = [
    0, 1, -1, 1.5, 1e308, 10**400, -(10**400), math.nan, math.inf, True, None, b"x", object(), "", "x", "9" * 5000,
    "0000-00-00", "2026-01-01T00:00:00+99:99", ["9999-12-31T23:59:59-23:59"], ["0001-01-01T00:00:00+23:59"], [], [[]],
    [None], [1, 2], [math.nan, 1.0], [1, "a"], ["a"], (1, 2), {1, 2}, {}, {"x": 1}, {1: 2},
]  # fmt: skip


@pytest.fixture(params=[MemoryMetricTask, TimingMetricTask, CpuTimingMetricTask])
def task(request: pytest.FixtureRequest) -> MetadataMetricTask:
    config = request.param.ConfigClass(target="demo.run")
    config.connections.package, config.connections.metric = "demo", "Metric"
    return request.param(config=config)


def forms(level: dict[str, Any], path: Path) -> Iterator[Any]:
    """Yield the metadata in each form in which a metric task takes them."""
    yield {"demo": level}
    yield {f"demo.{key}": value for key, value in level.items()}
    kinds = {"arrays": list, "metadata": dict}
    below: dict[str, Any] = {part: {k: v for k, v in level.items() if type(v) is kind} for part, kind in kinds.items()}
    below["scalars"] = {key: value for key, value in level.items() if type(value) not in kinds.values()}
    document = {"scalars": {}, "arrays": {}, "metadata": {"demo": below}}
    yield document
    try:
        path.write_text(json.dumps(document))
    except (TypeError, ValueError):  # a value that JSON has not
        return
    yield path


@pytest.mark.parametrize("key", [*GOOD, *BESIDE, "pageSize"])
def test_a_value_that_does_not_belong_there_is_never_a_raw_error(task, key, tmp_path):
    told = 0
    for value in BAD:
        for metadata in forms({**GOOD, **BESIDE, key: value}, tmp_path / "metadata.json"):
            try:
                measurement = task.run(metadata).measurement
            except (MetricComputationError, NoWorkFound):
                told += 1
            else:
                json.dumps([measurement.json, measurement.notes])
    assert told  # None and [[]] at least, in whatever place


@pytest.mark.parametrize("metadata", [{1: 2}, {"demo": {1: 2}}])
def test_a_key_of_another_type_is_named(task, metadata):
    with pytest.raises(MetricComputationError, match="invalid metadata: invalid key 1: a key is a string"):
        task.run(metadata)
