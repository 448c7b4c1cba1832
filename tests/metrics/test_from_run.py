"""The metrics of a run: their selection and measurement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runmem.errors import SettingError
from runmem.events import TaskRecord
from runmem.formats.mprof_lines import mem_line
from runmem.metrics.from_run import NODE, WHOLE_RUN, all_choices, chosen, configured, job_of_run
from runmem.metrics.measured_run import MeasuredRun, read_measured_runs
from runmem.metrics.memory_metric import MemoryMetricTask
from runmem.metrics.timing_metric import CpuTimingMetricTask, TimingMetricTask
from runmem.store.layout import RunDirectory
from runmem.store.records import record_to_line
from runmem.units import MIB
from runmem.verify.bounds import bound_of


@pytest.fixture
def run(tmp_path: Path) -> MeasuredRun:
    directory = RunDirectory.create("demo", tmp_path)
    record = TaskRecord(
        task_id=1, attempt=1, module="demo", name="isr", file="demo.py", node="n1", pid=7, thread=7, status="finished",
        start_s=1.0, end_s=3.5, cpu_s=0.5, base_bytes=MIB, peak_bytes=5 * MIB, end_bytes=MIB, method="hwm",
    )  # fmt: skip
    directory.tasks_jsonl.write_bytes(record_to_line(record))
    (directory.traces / "n1.dat").write_bytes(mem_line(6 * MIB, 2.0))
    return MeasuredRun.from_directory(directory.root)


def task(kind: type, target: str) -> object:
    config = kind.ConfigClass(target=target)
    config.connections.package, config.connections.metric = "demo", "M"
    return kind(config=config)


@pytest.mark.parametrize("kind", [TimingMetricTask, CpuTimingMetricTask])
@pytest.mark.parametrize("target", [WHOLE_RUN, f"{NODE}n1"])
def test_a_timing_metric_never_measures_memory(run, kind, target):
    job = job_of_run(run, configured(run, [task(kind, target)]))
    assert not job.measurements
    assert f"{kind.__name__} measures tasks; for {target} there is only memory" in job.meta["demo.M.not_measured"]
    assert (job.metrics["demo.M"].unit, job.metrics["demo.M"].tags) == ("s", {"time"})


def test_a_memory_metric_may_be_of_a_node_a_task_or_the_run(run):
    for target, size in ((WHOLE_RUN, 6), (f"{NODE}n1", 6), ("demo.isr", 5)):
        (measurement,) = job_of_run(run, configured(run, [task(MemoryMetricTask, target)])).measurements.values()
        assert (measurement.value, measurement.unit) == (size * MIB, "byte")


def test_the_children_of_a_task_have_a_metric_if_there_were_any(run):
    assert not [choice for choice in all_choices(run) if "Children" in str(choice.name)]
    with pytest.raises(SettingError, match=r"no execution of demo\.isr is known to have had child processes"):
        chosen(run, ["children:isr"])
    few = [
        replace(run.records[0], children_method="sampled", children_peak_bytes=3 * MIB, children_command="sort"),
        replace(run.records[0], children_method="hwm", children_peak_bytes=2 * MIB),
        replace(run.records[0], children_method="missed", reason="too short"),
    ]
    (choice,) = (each for each in all_choices(replace(run, records=few)) if "Children" in str(each.name))
    assert (str(choice.name), choice.target) == ("demo.IsrChildrenMemory", "children:demo.isr")
    assert chosen(replace(run, records=few), ["children:isr"]) == [choice]
    (measurement,) = job_of_run(replace(run, records=few), [choice]).measurements.values()
    assert (measurement.value, measurement.unit) == (3 * MIB, "byte")
    assert {name: measurement.notes[name] for name in ("method", "command", "executions", "missed")} == {
        "method": "sampled", "command": "sort", "executions": 3, "missed": 1,
    }  # fmt: skip
    job = job_of_run(replace(run, records=few[2:]), [choice])
    assert job.meta["demo.IsrChildrenMemory.not_measured"] == "too short"


def test_records_do_not_raise_the_peak_of_a_trace_of_another_metric(run):
    few = [replace(run.records[0], peak_bytes=90 * MIB)]
    assert replace(run, records=few).run_peak().peak_bytes == 90 * MIB
    traces = {"n1": replace(run.traces["n1"], notes=["pss: values are proportional set sizes"])}
    assert replace(run, records=few, traces=traces).run_peak().peak_bytes == 6 * MIB


def test_a_time_of_a_task_is_in_seconds(run):
    (measurement,) = job_of_run(run, configured(run, [task(TimingMetricTask, "isr")])).measurements.values()
    assert (measurement.value, measurement.unit) == (2.5, "s")


@pytest.mark.parametrize("kind", [TimingMetricTask, CpuTimingMetricTask])
def test_a_time_is_a_lower_bound_where_the_end_of_a_task_is_not_known(run, kind):
    cut_off = replace(run.records[0], status="killed", end_s=2.0, cpu_s=None)
    for records, bound in ((run.records, ""), ([*run.records, cut_off], ">=")):
        job = job_of_run(replace(run, records=records), configured(run, [task(kind, "isr")]))
        assert bound_of(job.measurements["demo.M"].notes) == bound


def test_forked_children_have_no_bound_unless_their_pages_are_divided(run):
    few = [replace(run.records[0], children_method="sampled", children_peak_bytes=3 * MIB, children_command="(forked)")]
    divided = {"n1": replace(run.traces["n1"], notes=["pss: values are proportional set sizes"])}
    for traces, bound in ((run.traces, "~"), (divided, ">=")):
        forked = replace(run, records=few, traces=traces)
        job = job_of_run(forked, chosen(forked, ["children:isr"]))
        assert bound_of(job.measurements["demo.IsrChildrenMemory"].notes) == bound


def test_a_run_without_tasks_reports_that_none_ran(tmp_path):
    directory = RunDirectory.create("bare", tmp_path)
    (directory.traces / "mprofile_20261120120000.dat").write_bytes(mem_line(6 * MIB, 2.0))
    directory.run_json.write_text("{}")
    bare = MeasuredRun.from_directory(directory.root)
    job = job_of_run(bare, all_choices(bare))
    assert list(job.measurements) == ["bare.MasterMemory"]
    assert job.meta["bare.RunMemory.not_measured"].startswith("no task ran")


def test_a_folder_without_measurements_raises_with_valid_contents(tmp_path):
    with pytest.raises(SettingError, match=r"not a run directory .*no \.dat traces"):
        read_measured_runs([tmp_path])


def test_a_target_that_is_empty_is_not_every_task(run):
    assert [choice.target for choice in all_choices(run)] == ["demo.isr", "node:n1", WHOLE_RUN]
    with pytest.raises(SettingError, match="the target is empty"):
        chosen(run, [""])
