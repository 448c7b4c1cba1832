from __future__ import annotations

import math
import time

import pytest

from runmem.metrics.timing_metric import CpuTimingMetricTask, TimingMetricTask
from runmem.pipe_base.errors import MetricComputationError, NoWorkFound
from runmem.pipe_base.metadata import TaskMetadata
from runmem.pipe_base.time_method import timeMethod

START, END = "2026-01-31T12:00:00.000000+00:00", "2026-01-31T12:00:02.500000+00:00"


def task(kind: type, target: str = "run"):
    config = kind.ConfigClass()
    config.connections.package, config.connections.metric = "demo", "RunTime"
    config.connections.labelName = "isr"
    config.target = target
    return kind(config=config)


def test_the_wall_time_is_between_the_times_of_day():
    measurement = task(TimingMetricTask).run({"isr.runStartUtc": [START], "isr.runEndUtc": [END]}).measurement
    assert (str(measurement.metric_name), measurement.value, measurement.unit) == ("demo.RunTime", 2.5, "s")
    assert {name: datum.value for name, datum in measurement.extras.items()} == {"start": START, "end": END}


def test_a_time_without_a_zone_is_utc():
    values = {"runStartUtc": "2026-01-31T12:00:00.000000", "runEndUtc": END}
    assert task(TimingMetricTask).run(values).measurement.value == 2.5


def test_the_processor_time_is_the_difference_of_its_clock():
    values = {"runStartCpuTime": [3.0], "runEndCpuTime": [4.25]}
    assert task(CpuTimingMetricTask).run(values).measurement.value == 1.25


def test_of_several_calls_the_longest_is_taken_and_their_number_noted():
    values = {"runStartCpuTime": [0.0, 1.0, 5.0], "runEndCpuTime": [0.5, 4.0, 5.5]}
    measurement = task(CpuTimingMetricTask).run(values).measurement
    assert measurement.value == 3.0
    assert measurement.notes["values"] == "the maximum of 3 values"


def test_calls_that_were_timed_are_read():
    class Work:
        metadata = TaskMetadata()

        @timeMethod
        def run(self) -> None:
            until = time.process_time() + 0.02
            while time.process_time() < until:
                pass

    Work().run()
    assert task(CpuTimingMetricTask).run(Work.metadata).measurement.value >= 0.02
    assert task(TimingMetricTask).run(Work.metadata).measurement.value >= 0.02


@pytest.mark.parametrize("kind", [TimingMetricTask, CpuTimingMetricTask])
def test_metadata_without_the_target_raise_no_work_found(kind):
    with pytest.raises(NoWorkFound, match="have no runEnd"):
        task(kind).run({"walkStartUtc": START})


@pytest.mark.parametrize("value", [math.nan, math.inf, "3.0", True, ["a"]])
def test_a_malformed_processor_time_is_named_with_its_key(value):
    with pytest.raises(MetricComputationError, match="invalid metadata: isr.runEndCpuTime = "):
        task(CpuTimingMetricTask).run({"isr.runStartCpuTime": 1.0, "isr.runEndCpuTime": value})


@pytest.mark.parametrize("value", ["yesterday", "", 5, 1.5, True])
def test_a_malformed_time_of_day_is_named_with_its_key(value):
    with pytest.raises(MetricComputationError, match=r"invalid metadata: runStartUtc = .* is not a time such as"):
        task(TimingMetricTask).run({"runStartUtc": value, "runEndUtc": END})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"runStartCpuTime": 1.0}, "runStartCpuTime without runEndCpuTime"),
        ({"runEndCpuTime": 1.0}, "runEndCpuTime without runStartCpuTime"),
        ({"runStartCpuTime": [1.0, 2.0], "runEndCpuTime": [3.0]}, "has 2 values and runEndCpuTime has 1"),
        ({"runStartCpuTime": [], "runEndCpuTime": []}, "has 0 values"),
        ({"runStartCpuTime": 5.0, "runEndCpuTime": 3.0}, "runEndCpuTime = 3.0 is before runStartCpuTime = 5.0"),
        (
            {"a.runStartCpuTime": 1.0, "b.runStartCpuTime": 1.0},
            "ambiguous: it matches a.runStartCpuTime, b.runStartCpuTime",
        ),
    ],
)
def test_inconsistent_metadata_raise(values, message):
    with pytest.raises(MetricComputationError, match=message.replace(".", r"\.")):
        task(CpuTimingMetricTask).run(values)


def test_wall_times_keep_their_microseconds():
    values = {"runStartUtc": "2026-01-31T12:00:00.000001+00:00", "runEndUtc": "2026-01-31T13:00:00.123457+01:00"}
    assert task(TimingMetricTask).run(values).measurement.value == 0.123456
    values = {"runStartUtc": "2026-01-31T12:00:00.000001", "runEndUtc": "2026-01-31T12:00:00.000003"}
    assert task(TimingMetricTask).run(values).measurement.value == 2e-6


def test_what_makes_the_measurement_gets_the_names_of_lsst_verify_and_the_longest_call():
    received = []

    class Asking(CpuTimingMetricTask):
        def makeMeasurement(self, values):
            received.append(values)
            return super().makeMeasurement(values)

    values = {
        "runStartCpuTime": [0.0, 1.0], "runEndCpuTime": [0.5, 4.0], "runStartUtc": [START, START], "runEndUtc": [END],
    }  # fmt: skip
    assert Asking(task(CpuTimingMetricTask).config).run(values).measurement.value == 3.0
    assert received == [{"StartTime": 1.0, "EndTime": 4.0, "StartTimestamp": START, "EndTimestamp": None}]


def test_a_measurement_is_made_from_the_values_alone():
    wall = task(TimingMetricTask).makeMeasurement({"StartTimestamp": START, "EndTimestamp": END})
    assert (wall.value, wall.extras["end"].value) == (2.5, END)
    assert task(CpuTimingMetricTask).makeMeasurement({"StartTime": 1.0, "EndTime": 3.5}).value == 2.5
    with pytest.raises(NoWorkFound, match="have no runEndUtc"):
        task(TimingMetricTask).makeMeasurement({"StartTimestamp": None, "EndTimestamp": None})
    with pytest.raises(MetricComputationError, match="StartTimestamp without runEndUtc"):
        task(TimingMetricTask).makeMeasurement({"StartTimestamp": START, "EndTimestamp": None})
    with pytest.raises(MetricComputationError, match="EndTime = '3' is not a number of seconds"):
        task(CpuTimingMetricTask).makeMeasurement({"StartTime": 1.0, "EndTime": "3"})
