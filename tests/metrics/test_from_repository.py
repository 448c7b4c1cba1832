from __future__ import annotations

import pytest

from runmem.errors import SettingError
from runmem.metrics.from_repository import job_of_usages, package_of
from runmem.metrics.quantum_usage import QuantumUsage
from runmem.metrics.usage_summary import TaskUsage


def of(label: str, *usages: QuantumUsage | str) -> TaskUsage:
    found = TaskUsage(label)
    found.add(usages)
    return found


def test_each_task_has_its_highest_mean_median_and_95th_percentile_of_own_peaks():
    usages = of(
        "isr", *(QuantumUsage(size, "own", 36.0) for size in (1, 2, 6)), QuantumUsage(9, "contaminated", 1.0), "torn"
    )
    job = job_of_usages("demo", [usages])
    assert {str(name): job[name].value for name in job.metrics} == {
        "demo.IsrMemory": 6, "demo.IsrMemoryMean": 3, "demo.IsrMemoryMedian": 2, "demo.IsrMemoryP95": 6,
    }  # fmt: skip
    notes = job["demo.IsrMemory"].notes
    assert (notes["peak"], notes["executions"], notes["peaks_own"], notes["peaks_contaminated"]) == ("own", 5, 3, 1)
    assert (notes["contaminated_max_bytes"], notes["damaged"]) == (9, 1)
    assert notes["wall_hours"] == pytest.approx(0.03)


def test_upper_bounds_are_measured_only_where_there_are_no_own_peaks():
    job = job_of_usages("demo", [of("write-coadd", QuantumUsage(9, "contaminated", 1.0))])
    assert job["demo.WriteCoaddMemory"].notes["peak"] == "contaminated"
    assert job["demo.WriteCoaddMemory"].value == 9


def test_a_task_without_peaks_is_not_measured_with_a_reason():
    job = job_of_usages("demo", [of("isr", "torn")])
    assert not job.measurements
    assert job.meta["demo.IsrMemory.not_measured"] == "none of 1 quanta of isr has a peak"


def test_the_package_is_the_name_of_the_repository_unless_given():
    assert package_of("/repo/main data/", None) == "main_data"
    assert package_of("s3://bucket/embargo.yaml", None) == "embargo_yaml"
    assert package_of("/", "mine") == "mine"
    with pytest.raises(SettingError, match=r"'a\.b'"):
        package_of("/", "a.b")
