from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from runmem.cli.metric import command
from runmem.errors import SettingError
from runmem.events import TaskRecord
from runmem.formats.mprof_lines import child_line, mem_line
from runmem.pipe_base.errors import NoWorkFound
from runmem.reports.summary import RunSummary
from runmem.reports.trace_summary import TraceSummary
from runmem.store.layout import RunDirectory
from runmem.store.records import record_to_line
from runmem.store.run import read_run, write_provenance
from runmem.units import MIB
from runmem.verify.job import Job

START = 1_790_000_000.0


def record(task_id: int, name: str = "count_words", module: str = "wordcount", **fields: Any) -> TaskRecord:
    values: dict[str, Any] = {
        "file": "wordcount.py", "node": "n1", "pid": 10, "thread": 1, "attempt": 1, "start_s": START + task_id,
        "end_s": START + task_id + 1, "base_bytes": 50 * MIB, "peak_bytes": 100 * MIB, "method": "hwm",
        "status": "finished",
    }  # fmt: skip
    return TaskRecord(task_id, module, name, **{**values, **fields})


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = RunDirectory.create("wordcount", tmp_path / "runmem_runs")
    records = [
        record(1), record(2, peak_bytes=312 * MIB, node="n2"), record(3, method="sampled", status="failed"),
        record(4, peak_bytes=None, base_bytes=None, method=None), record(5, "merge", peak_bytes=70 * MIB),
        record(6, "count_words", "mywordcount", peak_bytes=999 * MIB), record(7, "unmeasured", peak_bytes=None),
    ]  # fmt: skip
    made.tasks_jsonl.write_bytes(b"".join(map(record_to_line, records)) + b"\x00\xff\n{torn\n")
    write_provenance(made, {"app": "wordcount", "records_complete": True})
    return made


def metric(run: RunDirectory | Path, target: str, *more: Any, package: str = "demo", name: str = "Memory") -> Result:
    path = run.root if isinstance(run, RunDirectory) else run
    arguments = [path, "--target", target, "--package", package, "--metric", name, *more]
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def error_of(result: Result) -> SettingError:
    assert isinstance(result.exception, SettingError), result.exception
    assert result.exception.exit_code == 2
    return result.exception


def test_the_measurement_is_printed_and_written_as_a_job(run):
    result = metric(run, "wordcount.count_words")
    assert result.exit_code == 0, result.exception
    path = run.root / "metrics" / "demo.Memory.json"
    assert result.output.splitlines()[0] == f"demo.Memory: {312 * MIB} byte (312.0 MiB)"
    assert result.output.splitlines()[-1] == f"Written to {path}"
    document = json.loads(path.read_text())
    assert list(document) == ["measurements", "blobs", "metrics", "specs", "meta"]
    assert (document["measurements"][0]["value"], document["measurements"][0]["unit"]) == (312.0 * MIB, "byte")
    assert document["metrics"][0]["name"] == "demo.Memory"


def test_how_the_value_came_about_is_printed_and_kept_in_the_notes(run):
    output = metric(run, "wordcount.count_words").output
    assert "calls    4 (1 failed)" in output
    assert "2 exact, 1 sampled, 1 missing; the highest by hwm, on n2" in output
    assert "the maximum of 3 values" in output
    assert "tasks.jsonl: 2 lines skipped" in output
    notes = Job.read(run.root / "metrics" / "demo.Memory.json")["demo.Memory"].notes
    assert notes["target"] == "wordcount.count_words"
    assert (notes["executions"], notes["peaks_missing"], notes["peaks_sampled"], notes["failed"]) == (4, 1, 1, 1)
    assert (notes["lines_skipped"], notes["run"], notes["method"]) == (2, "wordcount_01", "hwm")


def test_the_full_name_is_taken_even_where_it_is_the_end_of_another(run):
    assert metric(run, "wordcount.count_words").output.startswith(f"demo.Memory: {312 * MIB} byte")
    assert metric(run, "mywordcount.count_words").output.startswith(f"demo.Memory: {999 * MIB} byte")


def test_the_end_of_a_name_is_enough_where_it_is_unambiguous(run):
    assert metric(run, "merge").output.startswith(f"demo.Memory: {70 * MIB} byte")


def test_an_ambiguous_target_lists_what_it_fits(run):
    message = str(error_of(metric(run, "count_words")))
    assert "fits several" in message
    assert "mywordcount.count_words, wordcount.count_words" in message
    assert "merge" not in message


def test_an_unknown_target_lists_those_of_the_run(run):
    message = str(error_of(metric(run, "nope")))
    assert "no task 'nope'" in message
    assert "mywordcount.count_words, wordcount.count_words, wordcount.merge, wordcount.unmeasured" in message


def test_a_task_without_a_measured_peak_is_no_measurement(run):
    result = metric(run, "unmeasured")
    assert isinstance(result.exception, NoWorkFound)
    assert "wordcount.unmeasured has a measured peak" in str(result.exception)
    assert not (run.root / "metrics").exists()


def test_the_output_file_can_be_named(run, tmp_path):
    assert (
        f"Written to {tmp_path / 'x' / 'job.json'}"
        in metric(run, "merge", "--output", tmp_path / "x" / "job.json").output
    )
    assert Job.read(tmp_path / "x" / "job.json")["demo.Memory"].value == 70 * MIB


@pytest.mark.parametrize(
    ("package", "name", "message"),
    [
        ("a.b", "Memory", "package 'a.b': a package name may not contain a dot"),
        ("demo", "a.b", "metric 'a.b': a metric name may not contain a dot"),
        ("", "Memory", "package '': the metric needs a package name"),
        ("de mo", "Memory", "package 'de mo': a package name may not contain white space"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(run, package, name, message):
    assert message in str(error_of(metric(run, "merge", package=package, name=name)))
    assert "a package name may not" in str(error_of(invoke(run.root, "--package", "a.b")))


def test_a_path_that_is_no_run_is_refused(tmp_path):
    assert "not a run directory" in str(error_of(metric(tmp_path, "merge")))


def test_a_run_without_records_says_how_to_get_some(tmp_path):
    run = RunDirectory.create("empty", tmp_path)
    write_provenance(run, {"app": "empty"})
    assert "--python_memory_profile" in str(error_of(metric(run, "merge")))


def test_a_metrics_name_needs_a_target(run):
    assert "needs a --target" in str(error_of(invoke(run.root, "--metric", "Memory")))


@pytest.fixture
def traced(run: RunDirectory) -> RunDirectory:
    """Two nodes with peaks at different times, and the master."""
    (run.traces / "n1.dat").write_bytes(
        mem_line(100 * MIB, START) + mem_line(400 * MIB, START + 2) + mem_line(50 * MIB, START + 4) + b"torn 1"
    )
    (run.traces / "n2.dat").write_bytes(
        child_line("worker-10", 90 * MIB, START + 1) + mem_line(300 * MIB, START + 1) + mem_line(80 * MIB, START + 1.5)
        + mem_line(60 * MIB, START + 5)
    )  # fmt: skip
    (run.traces / "mprofile_20261120120000.dat").write_bytes(mem_line(70 * MIB, START))
    return run


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def values(path: Path) -> dict[str, float | None]:
    return {
        str(m.metric_name): None if m.value is None else m.value / MIB for m in Job.read(path).measurements.values()
    }


def test_without_a_target_all_tasks_nodes_and_the_run_are_measured(traced):
    result = invoke(traced.root)
    assert result.exit_code == 0, result.exception
    assert values(traced.root / "metrics" / "wordcount.json") == {
        "wordcount.WordcountCountWordsMemory": 312, "wordcount.MywordcountCountWordsMemory": 999,
        "wordcount.MergeMemory": 70, "wordcount.MasterMemory": 70, "wordcount.NodeMemory_n1": 999,
        "wordcount.NodeMemory_n2": 312, "wordcount.RunMemory": 999,
    }  # fmt: skip
    assert "wordcount.UnmeasuredMemory: no execution of wordcount.unmeasured has a measured peak" in result.output
    assert "WordcountCountWordsMemory: 1 of 4 executions have no measured peak" in result.output
    assert "n1.dat: 1 line skipped" in result.output
    assert "tasks.jsonl: 2 lines skipped" in result.output


def test_the_peak_of_the_run_is_the_highest_sum_at_one_moment(traced):
    traced.tasks_jsonl.write_bytes(b"")
    assert invoke(traced.root, "--target", "whole-run").exit_code == 0
    job = Job.read(traced.root / "metrics" / "wordcount.RunMemory.json")
    measurement = job["wordcount.RunMemory"]
    assert measurement.value == 480 * MIB
    assert measurement.notes["sum_of_node_peaks_bytes"] == 700 * MIB
    assert (measurement.notes["nodes"], measurement.notes["time_s"]) == (2, START + 2)


def test_report_and_metric_tell_the_same_of_a_run(traced):
    summary = RunSummary.from_run(read_run(traced.root))
    told = {f"node:{row.node}": row.peak_bytes for row in summary.nodes}
    told |= {row.target: row.max_peak_bytes for row in summary.tasks if row.max_peak_bytes is not None}
    invoke(traced.root)
    measured = Job.read(traced.root / "metrics" / "wordcount.json").measurements.values()
    assert {m.notes["target"]: m.value for m in measured if m.notes["target"] != "whole-run"} == told


def test_a_node_or_several_targets_can_be_chosen(traced):
    assert invoke(traced.root, "--target", "node:n2", "--target", "merge", "--package", "demo").exit_code == 0
    assert values(traced.root / "metrics" / "demo.json") == {"demo.NodeMemory_n2": 312, "demo.MergeMemory": 70}
    assert "node:master, node:n1, node:n2" in str(error_of(invoke(traced.root, "--target", "node:n3")))
    assert "there are 2 targets" in str(
        error_of(invoke(traced.root, "--target", "merge", "--target", "whole-run", "--metric", "M"))
    )


@pytest.mark.parametrize(
    ("fields", "mark"),
    [
        ([{"peak_bytes": 300 * MIB}, {}], ""),
        ([{"peak_bytes": 300 * MIB}, {"method": "sampled", "status": "killed"}], ">="),
        ([{"peak_bytes": 300 * MIB}, {"peak_bytes": None}], ">="),
        ([{"peak_bytes": 300 * MIB, "shared": True}, {}], "<="),
        ([{"peak_bytes": 300 * MIB, "recorded_by": "memray"}], "<="),
        ([{"peak_bytes": 300 * MIB, "recorded_by": "memray"}, {"method": "sampled"}], "~"),
    ],
)
def test_the_highest_of_several_executions_has_the_mark_of_what_it_is(run, fields, mark):
    records = [record(number, **each) for number, each in enumerate(fields, 1)]
    run.tasks_jsonl.write_bytes(b"".join(map(record_to_line, records)))
    result = invoke(run.root)
    assert re.search(rf"^wordcount\.CountWordsMemory +{mark}300\.0 MiB", result.output, re.MULTILINE), result.output


@pytest.mark.parametrize(("bound", "spec", "code", "said"), [
    ("sampled", "<500 MiB", 0, "the value is a lower bound, so the true one may be higher"),
    ("sampled", "<50 MiB", 3, None),
    ("shared", "<50 MiB", 3, "the value is an upper bound, so the true one may be lower"),
    ("shared", "<500 MiB", 0, None),
    ("exact", "<500 MiB", 0, None),
])  # fmt: skip
def test_a_result_that_the_true_value_may_not_give_says_so(run, bound, spec, code, said):
    fields = {"sampled": {"method": "sampled"}, "shared": {"shared": True}, "exact": {}}[bound]
    run.tasks_jsonl.write_bytes(record_to_line(record(1, **fields)))
    result = metric(run, "wordcount.count_words", "--spec", f"demo.Memory{spec}")
    assert result.exit_code == code
    assert ("bound" in result.output) == (said is not None)
    assert said is None or said in result.output


@pytest.mark.parametrize(
    ("specs", "code", "told"),
    [
        (["demo.Memory<500 MiB"], 0, "passed"),
        (["demo.Memory<100 MiB"], 3, "failed"),
        (["demo.Memory<500 MiB", "demo.Memory<100 MB", "Memory>1 byte"], 3, "demo.Memory.less_than_2"),
        (["demo.Memory<1 h"], 3, "cannot be compared"),
        (["demo.Memroy<500 MiB"], 3, "no metric has this name; there are demo.Memory"),
    ],
)
def test_the_exit_code_tells_whether_the_specifications_hold(run, specs, code, told):
    result = metric(run, "wordcount.count_words", *(part for spec in specs for part in ("--spec", spec)))
    assert result.exit_code == code, result.output
    assert told in result.output
    assert len(Job.read(run.root / "metrics" / "demo.Memory.json").specs) == len(specs)


def test_the_package_of_a_specification_is_that_of_the_run(run):
    result = invoke(run.root, "--spec", "MergeMemory<1 TiB")
    assert result.exit_code == 0, result.output
    assert ".MergeMemory.less_than" in result.output


def test_a_metric_without_a_measurement_fails_its_specification(run):
    result = metric(run, "unmeasured", "--spec", "demo.Memory<1 TiB")
    assert result.exit_code == 3
    assert "not measured" in result.output
    assert "no execution of wordcount.unmeasured has a measured peak" in result.output
    assert not Job.read(run.root / "metrics" / "demo.Memory.json").measurements


def test_specifications_may_stand_in_a_file(run, tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text("name: Memory.limit\nthreshold: {operator: '<', value: 100, unit: MiB}\n")
    result = metric(run, "wordcount.count_words", "--spec", path)
    assert result.exit_code == 3
    assert "failed" in result.output
    assert "demo.Memory.limit" in result.output


def test_a_folder_of_specifications_that_inherit_is_checked(run, tmp_path):
    folder = tmp_path / "package" / "specs" / "demo"
    folder.mkdir(parents=True)
    (folder / "base.yaml").write_text("{id: memory, metric: Memory, threshold: {operator: <, unit: MiB}}\n")
    (folder / "limits.yaml").write_text(
        "{name: design, base: 'base#memory', threshold: {value: 400}}\n---\n"
        "{name: tight, base: Memory.design, threshold: {value: 100}}\n---\n"
        "{name: camera, base: Memory.design, metadata_query: {instrument: cam}}\n"
    )
    result = metric(run, "wordcount.count_words", "--spec", tmp_path / "package")
    assert result.exit_code == 3
    found = re.findall(r"^(passed|failed) +demo\.Memory\.(\w+)", result.output, re.MULTILINE)
    assert found == [("passed", "design"), ("failed", "tight")]
    assert "not checked, since they ask for metadata that the Job does not have: demo.Memory.camera" in result.output


@pytest.mark.parametrize("spec", ["nowhere.yaml", "demo.Memory<5 KB", "demo.Memory<", ""])
def test_a_specification_that_cannot_be_read_is_a_usage_error(run, spec):
    assert error_of(metric(run, "merge", "--spec", spec))
    assert not (run.root / "metrics").exists()


CONFIG = """\
- connections: {package: demo, metric: CountWordsMemory, labelName: wordcount}
  target: wordcount.count_words
- connections.package: demo
  connections.metric: MergeMemory
  connections.metadata: wordcount_metadata
  target: merge
  metadataDimensions: [instrument, visit]
- connections: {package: demo, metric: RunMemory}
  target: whole-run
- connections: {package: demo, metric: GoneMemory}
  target: gone
"""
PIPELINE = """\
description: metrics
tasks:
  isr: lsst.ip.isr.IsrTask
  countWordsMemory:
    class: lsst.verify.tasks.commonMetrics.MemoryMetricTask
    config:
      connections.package: demo
      connections.metric: CountWordsMemory
      connections.labelName: wordcount
      target: wordcount.count_words
"""


def test_metrics_can_be_configured_in_a_file_in_both_forms(traced, tmp_path):
    path = tmp_path / "metrics.yaml"
    path.write_text(CONFIG)
    result = invoke(traced.root, "--config", path)
    assert result.exit_code == 0, result.exception
    assert values(traced.root / "metrics" / "demo.json") == {
        "demo.CountWordsMemory": 312, "demo.MergeMemory": 70, "demo.RunMemory": 999,
    }  # fmt: skip
    assert "demo.GoneMemory: the run has no task 'gone'" in result.output
    assert invoke(traced.root, "--config", path, "--spec", "demo.GoneMemory<1 TiB").exit_code == 3


def test_the_file_of_a_pipeline_is_a_configuration(run, tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(PIPELINE)
    assert invoke(run.root, "--config", path).exit_code == 0
    assert values(run.root / "metrics" / "demo.CountWordsMemory.json") == {"demo.CountWordsMemory": 312}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "configures no metric"),
        ("text", "metric 1 is 'text'"),
        ("target: x", "metric 1: connections.package is None"),
        ("{connections: {package: p, metric: m}}", "target is None"),
        ("{connections: {package: p.q, metric: m}, target: x}", "package.*dot"),
        ("{connections: {package: 5, metric: m}, target: x}", "metric 1: .*package = 5 is a int"),
        ("{connections: {packag: p}}", "unknown option 'connections.packag'; there are connections.package"),
        ("{taget: x}", "unknown option 'taget'"),
        ("{connections: 5}", "connections is 5"),
        ("{class: x.GuessTask}", "'x.GuessTask' is unknown"),
        ("tasks: {a: {class: x.MemoryMetricTask, config: {file: f.py}}}", "'file' in config is not supported"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_configuration_that_is_not_valid_is_named(run, tmp_path, text, message):
    path = tmp_path / "metrics.yaml"
    path.write_text(text + "\n")
    error = error_of(invoke(run.root, "--config", path))
    assert re.search(rf"metrics\.yaml.*{message}", str(error)), error


def test_a_configuration_and_a_target_exclude_each_other(run, tmp_path):
    assert "omit" in str(error_of(invoke(run.root, "--config", tmp_path / "x.yaml", "--target", "merge")))


def test_several_runs_have_a_job_each(run, tmp_path):
    other = RunDirectory.create("wordcount", tmp_path / "runmem_runs")
    other.tasks_jsonl.write_bytes(record_to_line(record(1, peak_bytes=5 * MIB)))
    write_provenance(other, {"app": "wordcount", "records_complete": True})
    arguments = [run.root, other.root, "--target", "wordcount.count_words", "--package", "p", "--metric", "M"]
    assert invoke(*arguments).exit_code == 0
    assert [values(d.root / "metrics" / "p.M.json") for d in (run, other)] == [{"p.M": 312}, {"p.M": 5}]
    assert "its own Job" in str(error_of(invoke(*arguments, "--output", tmp_path / "j.json")))
    assert [len(document["measurements"]) for document in json.loads(invoke(*arguments, "--json").stdout)] == [1, 1]


def test_one_job_can_be_printed_as_json(run):
    document = json.loads(metric(run, "merge", "--json").stdout)
    assert document == json.loads((run.root / "metrics" / "demo.Memory.json").read_text())


MPROF = (
    b"CMDLINE /usr/bin/python app.py\n"
    b"FUNC __main__.load 20.0 100.1 30.0 100.9 1\nMEM 20.0 100.0\nMEM 90.5 100.5\nMEM 95.0 101.5\n"
    b"\x00\xff\n\nMEM 12.3"
)


def test_a_lone_trace_of_mprof_is_a_run(tmp_path):
    path = tmp_path / "mprofile_20261120120000.dat"
    path.write_bytes(MPROF)
    result = invoke(path)
    assert result.exit_code == 0, result.exception
    assert values(tmp_path / "metrics" / "trace.json") == {
        "trace.LoadMemory": 90.5, "trace.MasterMemory": 95, "trace.RunMemory": 95,
    }  # fmt: skip
    assert TraceSummary.from_file(path).peak_bytes == 95 * MIB
    assert "mprofile_20261120120000.dat: 3 lines skipped" in result.output
    assert invoke(path, "--target", "whole-run", "--package", "p", "--spec", "p.RunMemory<90 MiB").exit_code == 3


def test_a_folder_of_traces_of_pycompss_is_a_run(tmp_path):
    (tmp_path / "mprofile_20261120120000.dat").write_bytes(b"MEM 70.0 10.0\n")
    (tmp_path / "worker1.dat").write_bytes(b"MEM 100.0 10.0\nMEM 10.0 20.0\n")
    (tmp_path / "worker2.dat").write_bytes(b"MEM 30.0 10.0\nMEM 200.0 20.0\n")
    expected = {"trace.MasterMemory": 70, "trace.NodeMemory_worker1": 100, "trace.NodeMemory_worker2": 200,
                "trace.RunMemory": 210}  # fmt: skip
    assert invoke(tmp_path).exit_code == 0
    assert values(tmp_path / "metrics" / "trace.json") == expected
    files = sorted(tmp_path.glob("*.dat"))
    assert invoke(*files, "--output", tmp_path / "named.json").exit_code == 0
    assert values(tmp_path / "named.json") == expected


def test_traces_of_several_programs_are_not_one_run(tmp_path):
    for second in (1, 2):
        (tmp_path / f"mprofile_2026112012000{second}.dat").write_bytes(b"MEM 70.0 10.0\n")
    result = invoke(tmp_path)
    assert set(values(tmp_path / "metrics" / "trace.json").values()) == {70}
    assert "trace.RunMemory: there are 2 traces of programs and none of a node" in result.output


@pytest.mark.parametrize("content", [b"", b"\x00\xff\n", b"hello world\n"])
def test_a_file_that_is_no_trace_is_refused(tmp_path, content):
    (tmp_path / "x.dat").write_bytes(content)
    assert "not a memory trace" in str(error_of(invoke(tmp_path / "x.dat")))
    assert "cannot be read" in str(error_of(invoke(tmp_path / "gone.dat")))
    assert "does not exist" in str(error_of(invoke(tmp_path / "gone")))


def test_a_trace_without_totals_has_no_peak_not_zero(tmp_path):
    (tmp_path / "n1.dat").write_bytes(b"CHLD w 5.0 1.0\n")
    result = invoke(tmp_path / "n1.dat")
    assert isinstance(result.exception, NoWorkFound)
    assert "no MEM line" in str(result.exception)


def test_the_help_teaches_by_example():
    assert "--package demo --metric CountWordsMemory" in CliRunner().invoke(command, ["--help"]).output


def test_the_job_is_written_to_what_is_there(written_kind, make_target, run, tmp_path):
    target = make_target(written_kind, tmp_path / "out.json")
    result = metric(run, "wordcount.count_words", "--output", target.path)
    assert result.exit_code == 0, result.exception
    target.check()
    if target.keeps_content:
        assert json.loads(target.content())["measurements"][0]["value"] == 312.0 * MIB


@pytest.mark.parametrize("kind", ["socket", "block device"])
def test_an_output_that_is_no_file_is_refused_before_anything_is_read(kind, make_target, tmp_path):
    target = make_target(kind, tmp_path / "out.json")
    error = error_of(metric(tmp_path / "no run", "wordcount.count_words", "--output", target.path))
    assert re.match(rf"--output .*out\.json cannot be written: it is a {kind}\. Name another file\.", str(error))
    target.check()
