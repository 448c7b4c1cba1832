from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from runmem.cli.report import command
from runmem.errors import SettingError
from runmem.events import TaskRecord
from runmem.formats.mprof_lines import mem_line
from runmem.store.layout import RunDirectory
from runmem.store.records import record_to_line
from runmem.store.run import write_provenance
from runmem.units import MIB

START = 1_790_000_000.0


def write_run(base: Path, app: str = "wordcount", more_lines: bytes = b"") -> RunDirectory:
    run = RunDirectory.create(app, base)
    record = TaskRecord(1, app, "count_words", f"{app}.py", "n1", 10, 1, START, 1, START + 1, 0.5, 50 * MIB, 100 * MIB,
                        60 * MIB, "hwm", False, "finished")  # fmt: skip
    run.tasks_jsonl.write_bytes(record_to_line(record) + more_lines)
    (run.traces / "n1.dat").write_bytes(mem_line(100 * MIB, START) + mem_line(170 * MIB, START + 1) + more_lines)
    write_provenance(
        run, {"app": app, "started_s": START, "ended_s": START + 2, "exit_code": 0, "records_complete": True}
    )
    return run


def report(*arguments: Any) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=True)


def error_of(result: Result) -> SettingError:
    assert isinstance(result.exception, SettingError), result.exception
    assert result.exception.exit_code == 2
    return result.exception


def test_a_run_is_told(tmp_path):
    result = report(write_run(tmp_path).root)
    assert result.exit_code == 0, result.exception
    assert "wordcount_01: 1 task call in 2.0 s" in result.output
    assert "170.0 MiB" in result.output


def test_the_run_json_stands_for_its_run(tmp_path):
    assert "wordcount_01" in report(write_run(tmp_path).run_json).output


def test_without_a_run_the_newest_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runmem_runs", "older")
    for path in (tmp_path / "runmem_runs").glob("older*"):
        os.utime(path / "run.json", (1, 1))
        os.utime(path, (1, 1))
    write_run(tmp_path / "runmem_runs", "newer")
    assert "newer_01" in report().output


def test_without_any_run_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no run in" in str(error_of(report()))


def test_torn_foreign_and_binary_lines_are_skipped_and_counted(tmp_path):
    output = report(write_run(tmp_path, more_lines=b"\x00\xff\x01\n{torn\n").root).output
    assert "tasks.jsonl: 2 lines skipped" in output
    assert "n1.dat: 2 lines skipped" in output
    assert "count_words" in output


@pytest.mark.parametrize("name", ["missing", "empty", "file.txt"])
def test_a_path_that_is_no_run_says_what_is_expected(tmp_path, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("hello")
    error = error_of(report(tmp_path / name))
    assert name in str(error)
    assert "run directory" in str(error)


def test_json_is_the_whole_output(tmp_path):
    result = report(write_run(tmp_path).root, "--json", "--figure", tmp_path / "f.png")
    content = json.loads(result.stdout)
    assert content["tasks"][0]["max_peak_bytes"] == 100 * MIB
    assert (tmp_path / "f.png").is_file()
    assert str(tmp_path / "f.png") in result.stderr


def test_tasks_gives_a_line_a_record(tmp_path):
    run = write_run(tmp_path).root
    lines = report(run, "--tasks").stdout.splitlines()
    assert report("--tasks", run).stdout.splitlines() == lines
    assert len(lines) == 2
    assert "wordcount.count_words" in lines[1]


def test_a_figure_is_drawn_and_named(tmp_path):
    result = report(write_run(tmp_path).root, "--figure", tmp_path / "new" / "f.png")
    assert (tmp_path / "new" / "f.png").read_bytes().startswith(b"\x89PNG")
    assert f"figure: {tmp_path / 'new' / 'f.png'}" in result.output


def test_a_lone_trace_is_told_and_drawn(tmp_path):
    trace = write_run(tmp_path).traces / "n1.dat"
    result = report(trace, "--figure", tmp_path / "f.png")
    assert "n1.dat: peak 170.0 MiB after 1.0 s" in result.output
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(report(trace, "--json").stdout)["peak_bytes"] == 170 * MIB


def test_a_trace_that_is_not_there_or_is_none_is_refused(tmp_path):
    assert "cannot be read" in str(error_of(report(tmp_path / "n1.dat")))
    (tmp_path / "elf.dat").write_bytes(b"\x7fELF\x00")
    assert "not a memory trace" in str(error_of(report(tmp_path / "elf.dat")))


def test_options_that_exclude_each_other_are_refused(tmp_path):
    run = write_run(tmp_path)
    assert "--json and --tasks" in str(error_of(report(run.root, "--json", "--tasks")))
    assert "--tasks needs a run" in str(error_of(report(run.traces / "n1.dat", "--tasks")))


def test_the_help_teaches_by_example():
    output = report("--help").output
    assert "runmem report runmem_runs/wordcount_01 --figure memory.png" in output
    assert "nearest rank" in output


@pytest.mark.parametrize("kind", ["device", "pipe", "link to a file", "link to nothing"])
def test_a_figure_is_written_to_what_is_there(kind, make_target, tmp_path):
    target = make_target(kind, tmp_path / "f.png")
    result = report(write_run(tmp_path).root, "--figure", target.path)
    assert result.exit_code == 0, result.exception
    target.check()
    if target.keeps_content:
        assert target.content().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["socket", "block device"])
def test_a_figure_that_is_no_file_is_refused_before_anything_is_told(kind, make_target, tmp_path):
    target = make_target(kind, tmp_path / "f.png")
    result = report(write_run(tmp_path).root, "--figure", target.path)
    assert f"--figure {target.path} cannot be written: it is a {kind}. Name another file." in str(error_of(result))
    assert result.output == ""
    target.check()
