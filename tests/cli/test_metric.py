from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from runmem.cli.metric import command
from runmem.errors import SettingError
from runmem.events import TaskRecord
from runmem.metrics.errors import NoWorkFound
from runmem.metrics.job import Job
from runmem.store.layout import RunDirectory
from runmem.store.records import record_to_line
from runmem.store.run import write_provenance
from runmem.units import MIB

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


@pytest.mark.parametrize(("package", "name"), [("a.b", "Memory"), ("demo", "a.b"), ("", "Memory")])
def test_a_name_with_a_dot_or_none_is_refused(run, package, name):
    assert "connections." in str(error_of(metric(run, "merge", package=package, name=name)))


def test_a_path_that_is_no_run_is_refused(tmp_path):
    assert "not a run directory" in str(error_of(metric(tmp_path, "merge")))


def test_a_run_without_records_says_how_to_get_some(tmp_path):
    run = RunDirectory.create("empty", tmp_path)
    write_provenance(run, {"app": "empty"})
    assert "--python_memory_profile" in str(error_of(metric(run, "merge")))


def test_a_missing_option_is_a_usage_error(run):
    result = CliRunner().invoke(command, [str(run.root)])
    assert result.exit_code == 2
    assert "--target" in result.output


def test_the_help_teaches_by_example():
    assert "--package demo --metric CountWordsMemory" in CliRunner().invoke(command, ["--help"]).output
