from __future__ import annotations

import pytest

from runmem.metrics.quantum_usage import QuantumUsage, quantum_usage
from runmem.pipe_base.errors import MetricComputationError
from runmem.pipe_base.metadata import TaskMetadata

QUANTUM = {
    "quantum.__version__": 1,
    "quantum.prepUtc": ["2026-08-01T12:00:00.000000+00:00"], "quantum.endUtc": ["2026-08-01T12:01:00.500000+00:00"],
    "quantum.prepMaxResidentSetSize": [100], "quantum.startMaxResidentSetSize": [300],
    "quantum.endMaxResidentSetSize": [300],
    "isr.runStartMaxResidentSetSize": [300], "isr.runEndMaxResidentSetSize": [900], "isr.__version__": 1,
}  # fmt: skip


def usage(**more: object) -> QuantumUsage:
    named = {key.replace("__", ".", 1): value for key, value in more.items()}
    return quantum_usage(TaskMetadata.from_dict({**QUANTUM, **named}))


def test_peak_and_wall_time_are_those_of_the_quantum_from_its_preparation_on():
    assert usage() == (300, "own", 60.5)


def test_a_peak_from_before_the_quantum_is_contaminated_unless_runmem_measured_it():
    assert usage(quantum__prepMaxResidentSetSize=[300]) == (300, "contaminated", 60.5)
    assert usage(quantum__prepMaxResidentSetSize=[300], quantum__endPeakMethod=["hwm"]).owner == "own"


def test_before_version_one_the_unit_is_that_of_the_platform():
    assert usage(quantum____version__=0, quantum__platform="linux").peak_bytes == 300 * 1024
    assert usage(quantum____version__=0, quantum__platform="darwin").peak_bytes == 300


def test_metadata_without_a_quantum_have_the_values_of_the_highest_timed_method():
    metadata = TaskMetadata.from_dict({
        "isr.runStartMaxResidentSetSize": [5, 20], "isr.runEndMaxResidentSetSize": [20, 20],
        "isr.runStartUtc": ["2026-08-01T12:00:00", "2026-08-01T12:00:10"],
        "isr.runEndUtc": ["2026-08-01T12:00:01", "2026-08-01T12:00:12"], "isr.__version__": 1,
        "isr.sub.runEndMaxResidentSetSize": [9], "isr.sub.__version__": 1,
    })  # fmt: skip
    assert quantum_usage(metadata) == (20, "own", 3.0)


@pytest.mark.parametrize("metadata", [{}, {"quantum.caveats": 1}, {"quantum.endMaxResidentSetSize": []}])
def test_what_the_metadata_do_not_have_is_none(metadata):
    assert quantum_usage(TaskMetadata.from_dict(metadata)) == (None, None, None)
    assert quantum_usage(TaskMetadata.from_dict({"a.runEndMaxResidentSetSize": 7, "a.__version__": 1})) == (
        7, None, None
    )  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("quantum__endMaxResidentSetSize", [0], r"quantum.endMaxResidentSetSize = 0 is not a size"),
        ("quantum__endMaxResidentSetSize", "much", r"quantum.endMaxResidentSetSize = 'much' is not a number"),
        ("quantum__endUtc", ["noon"], r"quantum.endUtc = 'noon' is not a time"),
        ("quantum__endUtc", [5], r"quantum.endUtc = 5 is not a time"),
        ("quantum__endUtc", ["2026-08-01T11:00:00"], r"quantum.endUtc is before prepUtc"),
        ("quantum____version__", "one", r"quantum.__version__ = 'one' is not a version"),
    ],
)
def test_a_malformed_value_is_named_with_its_key(key, value, message):
    with pytest.raises(MetricComputationError, match=message):
        usage(**{key: value})
