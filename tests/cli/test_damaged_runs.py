"""The commands that read a run end soon and without a traceback, whatever its files contain."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from damage import START, make_run, try_one

from runmem.cli import metric, report
from runmem.reports.figure import panels_of_run
from runmem.store.run import read_run

BLOCKS = 10
EACH = 15


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("pristine")
    make_run(base)
    return base


@pytest.mark.parametrize("block", range(BLOCKS))
def test_damaged_files_are_borne(pristine: Path, block: int) -> None:
    wrong = [outcome for seed in range(block * EACH, (block + 1) * EACH) for outcome in try_one(pristine, seed)]
    assert wrong == []


@pytest.mark.parametrize("command", [report.command, metric.command])
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("pid", '"x"', "pid is 'x', which is not a valid process id; ignored"),
        ("pid", "99999999999999999999", "which is not a valid process id; ignored"),
        ("started_s", "1e308", "started_s is 1e+308, which is not a valid time in seconds since the epoch; ignored"),
        ("ended_s", "[1]", "ended_s is [1], which is not a valid time in seconds since the epoch; ignored"),
        ("exit_code", '"0"', "exit_code is '0', which is not a valid exit code; ignored"),
        ("nodes", "[[]]", "nodes is [[]], which is not a valid mapping of nodes; ignored"),
        ("nodes", '{"n1": 3}', "nodes.n1 is 3, which is not a valid mapping of names to values; ignored"),
        (
            "nodes",
            '{"n1": {"limit_bytes": "much"}}',
            "nodes.n1.limit_bytes is 'much', which is not a valid number of bytes",
        ),
        (
            "trace_files",
            '[1, "a"]',
            "trace_files[0] is 1, which is not a valid text of up to 10,000 characters; ignored",
        ),
        ("calls", "-1", "calls is -1, which is not a valid number of calls; ignored"),
    ],
)
def test_a_value_of_another_kind_is_named_and_passed_by(tmp_path, command, key, value, said):
    import json

    run = make_run(tmp_path)
    values = json.loads((run / "run.json").read_text())
    values[key] = json.loads(value)
    (run / "run.json").write_text(json.dumps(values))
    result = CliRunner().invoke(command, [str(run)])
    assert result.exit_code == 0, result.exception
    assert f"run.json: {key}" in result.output
    assert said in result.output


@pytest.mark.parametrize("command", [report.command, metric.command])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"app": "\xff"}', "it is not JSON: byte 9 is not UTF-8"),
        (b'{"app": "app"', "it is not JSON: Expecting ',' delimiter in line 1"),
        (b"[1, 2]", "it is [1, 2], not a mapping of names to values"),
        (b"", "it is not JSON: Expecting value in line 1"),
    ],
)
def test_what_is_no_provenance_is_said_and_the_records_are_told(tmp_path, command, content, said):
    run = make_run(tmp_path)
    (run / "run.json").write_bytes(content)
    result = CliRunner().invoke(command, [str(run)])
    assert result.exit_code == 0, result.exception
    assert "run.json: it " in result.output
    assert said in result.output
    assert "100.0 MiB" in result.output


@pytest.mark.parametrize("command", [report.command, metric.command])
@pytest.mark.parametrize("place", ["run.json", "tasks.jsonl", "traces/n1.dat", "replica/n1/tasks-12.jsonl"])
def test_nobody_waits_for_a_pipe_in_place_of_a_file(tmp_path, command, place):
    run = make_run(tmp_path)
    (run / place).unlink()
    os.mkfifo(run / place)
    result = CliRunner().invoke(command, [str(run)])
    assert result.exit_code == 0, result.exception
    if place in ("run.json", "traces/n1.dat"):
        assert f"{Path(place).name}: it cannot be read: it is a named pipe, not a file" in result.output


def test_a_lone_trace_that_is_a_device_is_refused(tmp_path):
    (tmp_path / "zero.dat").symlink_to("/dev/zero")
    for command in (report.command, metric.command):
        result = CliRunner().invoke(command, [str(tmp_path / "zero.dat")])
        assert getattr(result.exception, "exit_code", None) == 2
        assert "it is a device, not a file" in str(result.exception)


def test_a_time_years_away_does_not_stretch_the_figure(tmp_path):
    run = make_run(tmp_path)
    with (run / "traces" / "n1.dat").open("ab") as trace:
        trace.write(b"MEM 100.0 1.5\nCHLD worker-10 80.0 200000000000.0\n")
    with (run / "tasks.jsonl").open("ab") as records:
        line = (run / "tasks.jsonl").read_bytes().splitlines()[0]
        records.write(line.replace(b'"end_s":1790000001.8', b'"end_s":200000000000.0') + b"\n")
    for panel in panels_of_run(read_run(run)):
        times = [*panel.trace.times_s, *(bar.start_s for bar in panel.bars), *(bar.end_s for bar in panel.bars)]
        times += [time for series, _ in panel.trace.children.values() for time in series]
        assert min(times) >= START
        assert max(times) <= START + 10
    result = CliRunner().invoke(report.command, [str(run), "--figure", str(tmp_path / "a.svg")])
    assert result.exit_code == 0, result.exception
    assert (tmp_path / "a.svg").stat().st_size < 1_000_000


def test_a_file_whose_name_is_no_text_is_told(tmp_path):
    run = make_run(tmp_path)
    (run / "traces" / "n1.dat").rename(run / "traces" / "\udcff.dat")
    for command in (report.command, metric.command):
        result = CliRunner().invoke(command, [str(run)])
        assert result.exit_code == 0, result.exception
        assert "?" in result.output
