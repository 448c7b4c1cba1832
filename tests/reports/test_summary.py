from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from runmem.events import FIRST_NESTED
from runmem.reports.summary import RunSummary
from runmem.store.run import read_run
from runmem.units import GIB, MIB


def printed(summary: RunSummary, **console: object) -> str:
    out = io.StringIO()
    summary.render(Console(file=out, **console))  # type: ignore[arg-type]
    return out.getvalue()


def test_the_summary_of_a_run_shows_tasks_nodes_and_files(write_run, record):
    run = write_run([record(1), record(2, peak_bytes=200 * MIB), record(3, name="merge", peak_bytes=70 * MIB)])
    summary = RunSummary.from_run(read_run(run.root))
    assert [(row.name, row.calls, row.max_peak_bytes) for row in summary.tasks] == [
        ("count_words", 2, 200 * MIB),
        ("merge", 1, 70 * MIB),
    ]
    assert [(row.node, row.peak_bytes) for row in summary.nodes] == [("master", 104 * MIB), ("n1", 200 * MIB)]
    assert summary.nodes[1].worker_peak_bytes == 200 * MIB
    text = printed(summary)
    assert "wordcount_01: 3 task calls in 5.0 s, exit code 0" in text
    assert re.search(r"^count_words +2 +0 +200\.0 MiB +50\.0 MiB +150\.0 MiB$", text, re.M)
    assert re.search(r"^n1 +>=200\.0 MiB +- +512\.0 MiB +39 % +>=200\.0 MiB +512\.0 MiB +39 %$", text, re.M)
    assert str(run.root) in text


def test_it_ends_with_the_next_commands_to_type(write_run, record):
    run = write_run([record(1)])
    lines = printed(RunSummary.from_run(read_run(run.root))).rstrip().splitlines()
    assert lines[-2].split() == ["runmem", "report", str(run.root), "--figure", "memory.png"]
    assert lines[-1].split() == ["mprof", "plot", str(run.traces / "n1.dat")]  # which shows nothing without a screen


def test_no_figure_is_suggested_where_memory_was_not_measured(write_run):
    run = read_run(write_run([], trace_files=[], settings={"python_memory_profile": False}).root)
    assert "--figure" not in printed(RunSummary.from_run(run))


def test_a_path_with_a_space_is_quoted_in_the_next_command(tmp_path, write_run, record):
    run = write_run([record(1)])
    moved = run.root.rename(tmp_path / "my run")
    assert f"'{moved}'" in printed(RunSummary.from_run(read_run(moved)))


def test_the_trace_in_the_launching_folder_is_named_while_it_is_there(tmp_path, write_run, record):
    outside = tmp_path / "n1.dat"
    run = write_run([record(1)], trace_files=[str(outside), str(tmp_path / "gone" / "mprofile_20260921132320.dat")])
    outside.hardlink_to(run.traces / "n1.dat")
    assert RunSummary.from_run(read_run(run.root)).trace_files == [run.traces / "mprofile_20260921132320.dat", outside]


def test_a_file_of_another_run_that_has_the_name_of_a_trace_is_not_named(tmp_path, write_run, record):
    run = write_run([record(1)], trace_files=[str(tmp_path / "n1.dat")])
    (tmp_path / "n1.dat").write_bytes((run.traces / "n1.dat").read_bytes())
    text = printed(RunSummary.from_run(read_run(run.root)))
    assert f"mprof plot {run.traces / 'n1.dat'}" in text
    assert str(tmp_path / "n1.dat") not in text


def test_a_running_task_is_reported_as_such(record):
    text = printed(RunSummary.from_records([record(1, status="running", end_s=None, peak_bytes=None, method=None)]))
    assert "missing: it has not ended yet" in text


def test_the_95th_percentile_needs_20_values(record):
    few = printed(RunSummary.from_records([record(number) for number in range(19)]))
    assert "p95" not in few
    peaks = [record(number, peak_bytes=(100 + number) * MIB) for number in range(20)]
    text = printed(RunSummary.from_records(peaks))
    assert re.search(r"^count_words +20 +0 +119\.0 MiB +118\.0 MiB ", text, re.M)


def test_a_killed_task_is_named_with_its_last_reading_its_limit_and_the_reason(record, killed):
    text = printed(RunSummary.from_records([record(1), killed]))
    assert "wordcount.big, call 17, attempt 2, on n1 (process 10)" in text
    assert "last reading 490.0 MiB, limit 512.0 MiB (96 %)" in text
    assert "the kernel ended it: out of memory" in text
    assert ">=500.0 MiB" in text


def test_cancelled_tasks_are_listed_by_the_reason(record):
    program, end = "the program cancelled it", "the program was ended by SIGTERM"
    records = [record(number, status="cancelled", reason=program if number % 2 else end) for number in range(1, 5)]
    lines = printed(RunSummary.from_records([record(9), *records])).splitlines()
    first = lines.index("Cancelled") + 1
    calls = [re.search(r"call (\d)|    (.*)", line) for line in lines[first : first + 6]]
    assert [found[1] or found[2] for found in calls if found] == ["1", "3", program, "2", "4", end]


def test_losses_and_skipped_lines_are_reported(write_run, record):
    run = write_run(
        [record(1)], node_lines=b"LOST 5 1790000009\nMEM 12.3\n\0\0\xff\n", task_lines=b"\x00\xff\n{torn\n",
        lost=["n2: the node went away"],
    )  # fmt: skip
    text = printed(RunSummary.from_run(read_run(run.root)))
    assert "tasks.jsonl: 2 lines skipped (torn, foreign or binary)" in text
    assert "n1.dat: 2 lines skipped" in text
    assert "n1.dat: 5 lines could not be written on the node" in text
    assert "n2: the node went away" in text


def test_a_complete_run_reports_no_losses(write_run, record):
    assert "Lost" not in printed(RunSummary.from_run(read_run(write_run([record(1)]).root)))


def test_a_missing_measurement_is_a_dash_with_its_reason_never_zero(record):
    text = printed(
        RunSummary.from_records([record(1, peak_bytes=None, base_bytes=None, method=None, reason="no /proc")])
    )
    assert re.search(r"^count_words +1 +0 +- +- +-$", text, re.M)
    assert "missing: no /proc" in text
    assert "0 B" not in text


@pytest.mark.parametrize(
    ("fields", "mark", "meaning"),
    [
        ({"method": "sampled"}, ">=100.0 MiB", "a lower bound"),
        ({"shared": True}, "<=100.0 MiB", "an upper bound"),
        ({"method": "sampled", "shared": True}, "~100.0 MiB", "neither bound"),
    ],
)
def test_a_peak_that_is_not_exact_is_marked_and_explained(record, fields, mark, meaning):
    text = printed(RunSummary.from_records([record(1, **fields)]))
    assert mark in text
    assert meaning in text


def test_exact_peaks_are_reported_as_exact(record):
    assert "Peaks are exact" in printed(RunSummary.from_records([record(1)]))


def test_repeated_executions_are_reported(record):
    text = printed(RunSummary.from_records([record(1, status="killed"), record(1, attempt=2), record(2)]))
    assert "Peaks of 3 executions are exact" in text
    assert "1 ran again: a worker died that ran the call or stored its result" in text
    assert "2 task calls" in text


def test_calls_that_were_tried_again_are_reported(record):
    tries = [record(1, status="failed"), record(1, status="failed", attempt=2), record(1, attempt=3)]
    text = printed(RunSummary.from_records([*tries, record(2, status="failed")]))
    assert "  2 failed, and their calls were tried again" in text
    assert "ran again" not in text


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [(0, "exit code 0"), (3, "exit code 3"), (137, "SIGKILL (exit code 137)"), (None, "no end is recorded")],
)
def test_the_end_of_the_program_is_reported(record, exit_code, words):
    assert words in printed(RunSummary.from_records([record(1)], provenance={"exit_code": exit_code}))


def test_a_killed_quantum_is_named_with_its_data_id(record, killed):
    quantum = record(18, name="isr", status="killed", data_id="{visit: 1, detector: 2}")
    assert "isr {visit: 1, detector: 2}, call 18" in printed(RunSummary.from_records([quantum]))


def test_a_narrow_terminal_gets_no_line_that_is_longer(write_run, record, killed):
    names = ["a_rather_long_name_of_a_function_in_a_pipeline", "merge"]
    records = [record(i, name=names[i % 2], node=f"node-with-a-long-name-{i % 2}") for i in range(1, 9)]
    run = write_run([*records, killed])
    text = printed(RunSummary.from_run(read_run(run.root)), width=80, force_terminal=True, color_system=None)
    table = text[: text.index("Files")]  # paths are given whole, to be copied
    assert max(map(len, table.splitlines())) <= 80
    assert re.search(r"^a_r\S*\.\.\S*ine +4 +0 +0 +100\.0 MiB", text, re.M)


def test_in_a_pipe_there_are_only_plain_whole_lines(record):
    name = "a_name_" * 20
    text = printed(RunSummary.from_records([record(1, name=name), record(2, name="\x1b[31mred")]))
    assert name in text
    assert "\x1b" not in text
    assert text.isascii()
    assert all(line == line.rstrip() for line in text.splitlines())


def test_many_tasks_are_cut_to_the_highest_and_the_rest_is_counted(record):
    summary = RunSummary.from_records([record(i, name=f"task_{i}", peak_bytes=i * MIB) for i in range(1, 51)])
    assert "and 20 more tasks" in printed(summary)
    out = io.StringIO()
    summary.render(Console(file=out), most_rows=None)
    assert re.search(r"^task_1 ", out.getvalue(), re.M)


def test_a_node_with_a_limit_below_its_memory_is_compared_with_the_limit(write_run, record):
    limited = {"memory_bytes": 24 * GIB, "limit_bytes": 680 * MIB, "limit_source": "cgroup v2 /sys/fs/cgroup/job"}
    text = printed(RunSummary.from_run(read_run(write_run([record(1)], nodes={"n1": limited}).root)))
    assert re.search(r"^Node +Peak +At +Allowed +Used ", text, re.M)
    assert re.search(r"^n1 +>=170\.0 MiB +4\.0 s +680\.0 MiB +25 % ", text, re.M)
    assert "  Allowed: 680.0 MiB by cgroup v2, of 24.0 GiB of memory\n" in text


def test_a_node_without_a_lower_limit_is_compared_with_its_memory(write_run, record):
    run = write_run([record(1)], nodes={"n1": {"memory_bytes": GIB, "limit_bytes": GIB}})
    text = printed(RunSummary.from_run(read_run(run.root)))
    assert re.search(r"^Node +Peak +At +Memory +Used ", text, re.M)
    assert "Allowed" not in text


@pytest.mark.parametrize("method", ["hwm", "sampled"])
def test_the_mark_of_sampled_values_is_explained_once(write_run, record, method):
    text = printed(RunSummary.from_run(read_run(write_run([record(1, method=method)]).root)))
    assert text.count(">= sampled: the highest of the readings, a lower bound") == 1


def test_the_children_of_tasks_have_a_column_where_there_were_any(record):
    alone = printed(RunSummary.from_records([record(1)]))
    assert "Children" not in alone
    few = [
        record(1, children_peak_bytes=30 * MIB, children_method="sampled", children_command="sort"),
        record(2, name="exact", children_peak_bytes=70 * MIB, children_method="hwm", children_command="cc"),
        record(3, name="short", children_method="missed", reason="too short"),
        record(4, name="none"),
    ]
    text = printed(RunSummary.from_records(few))
    assert re.search(r"^count_words .* >=30\.0 MiB +sort$", text, re.M)
    assert re.search(r"^exact .* 70\.0 MiB +cc$", text, re.M)
    assert re.search(r"^short .* missed +-$", text, re.M)
    assert re.search(r"^none .* - +-$", text, re.M)
    assert "missed: in 1 execution" in text


def test_records_are_not_compared_with_samples_of_another_metric(write_run, record):
    note = b"NOTE pss: values are proportional set sizes\n"
    run = write_run([record(1, peak_bytes=900 * MIB)], node_lines=note, settings={"memory_metric": "pss"})
    text = printed(RunSummary.from_run(read_run(run.root)))
    assert re.search(r"^n1 +>=170\.0 MiB .* >=90\.0 MiB ", text, re.M)
    assert "n1: pss: values are proportional set sizes" in text
    assert "Samples are pss (--memory_metric); peaks and increments of tasks are resident set sizes." in text


def test_gpus_are_shown_where_there_are_some(write_run, record):
    gpus = b"GPU gpu0 500 1790000000\nGPU gpu0 700 1790000001\nGPU worker-10 90 1790000000\n"
    run = write_run([record(1, gpu_peak_bytes=90 * MIB), record(2, name="none")], node_lines=gpus)
    text = printed(RunSummary.from_run(read_run(run.root)))
    assert re.search(r"^count_words .* >=90\.0 MiB$", text, re.M)
    assert re.search(r"^none .* -$", text, re.M)
    assert "n1: GPUs, all programs: gpu0 >=700.0 MiB" in text
    assert "GPU" not in printed(RunSummary.from_records([record(1)]))


def test_the_children_of_a_killed_task_are_named(record, killed):
    dead = replace(killed, children_peak_bytes=30 * MIB, children_method="sampled", children_command="sort")
    assert "its child processes had 30.0 MiB (sort)" in printed(RunSummary.from_records([dead]))


def test_a_total_that_may_be_too_high_is_not_shown_as_a_lower_bound(write_run, record):
    run = write_run([record(1)], node_lines=b"NOTE rss-sum: shared pages count repeatedly\n")
    assert re.search(r"^n1 +~170\.0 MiB ", printed(RunSummary.from_run(read_run(run.root))), re.M)


@pytest.mark.parametrize(
    ("provenance", "words"),
    [
        ({"calls": 0, "ended_s": 1.0}, "No task ran."),
        ({}, "No task is recorded."),
        ({"calls": 6, "calls_not_begun": 6, "ended_s": 1.0}, "No task ran."),
        (
            {"calls": 5000, "ended_s": 1.0, "settings": {"python_memory_profile": False}},
            "5,000 task calls; memory was not measured (--python_memory_profile does).",
        ),
        (
            {"calls": 5000, "ended_s": 1.0, "settings": {"python_memory_profile": True}},
            "5,000 task calls; their records are lost (see Lost).",
        ),
        (
            {"calls": 0, "settings": {"python_memory_profile": False}},
            "Task calls are not counted; memory was not measured (--python_memory_profile does).",
        ),
    ],
)
def test_a_summary_without_tasks_gives_the_reason(provenance, words):
    assert words in printed(RunSummary.from_records([], provenance=provenance)).splitlines()


def test_calls_that_never_began_are_not_listed_as_lost():
    provenance = {"calls": 6, "calls_not_begun": 6, "ended_s": 1.0, "settings": {"python_memory_profile": True}}
    text = printed(RunSummary.from_records([], provenance=provenance))
    assert "6 task calls had not begun" in text
    assert "Lost" not in text


def test_calls_made_by_tasks_are_counted_with_those_of_the_program(record):
    records = [record(1), record(FIRST_NESTED, parent_id=1), record(FIRST_NESTED + 1, parent_id=1)]
    provenance = {"calls": 1, "nested_calls_recorded": 2, "started_s": 0.0, "ended_s": 1.0}
    text = printed(RunSummary.from_records(records, provenance=provenance))
    assert text.startswith("run: 3 task calls (2 made by tasks) in 1.0 s")


def test_unknown_numbers_of_calls_are_not_shown_as_zero():
    text = printed(RunSummary.from_records([], provenance={"settings": {"python_memory_profile": False}}))
    assert text.startswith("run: no end is recorded")


def test_missing_records_are_listed_as_lost():
    provenance = {"calls": 1, "ended_s": 1.0, "settings": {"python_memory_profile": True}}
    text = printed(RunSummary.from_records([], provenance=provenance))
    assert text.index("see Lost") < text.index("Lost or unreadable") < text.index("no record of 1 task call")


def test_the_summary_as_json_has_null_for_what_is_missing(write_run, record):
    run = write_run([record(1, peak_bytes=None)], exit_code=None)
    content = json.loads(json.dumps(RunSummary.from_run(read_run(run.root)).as_dict()))
    assert content["exit_code"] is None
    assert content["tasks"][0]["max_peak_bytes"] is None
    assert content["directory"] == str(run.root)


def test_provenance_that_is_not_ours_does_no_harm(write_run, record):
    run = write_run([record(1)], nodes=[], lost="x", trace_files=7, started_s="now", exit_code="?", host=None)
    assert "count_words" in printed(RunSummary.from_run(read_run(run.root)))


def test_importing_the_summary_loads_neither_rich_nor_matplotlib_nor_numpy():
    code = "import sys, runmem.reports.summary as s; print(sorted({'rich', 'matplotlib', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


UNCLEAR = "between 1.0 MiB and 90.0 MiB: results for other tasks were received meanwhile"


def test_unclear_increments_are_counted_and_left_out(record):
    summary = RunSummary.from_records([
        record(1, increment_bytes=10 * MIB), record(2, increment_bytes=20 * MIB), record(3, increment_bytes=30 * MIB),
        record(4, increment_bytes=90 * MIB, increment_unclear=UNCLEAR),
    ])  # fmt: skip
    text = printed(summary)
    assert re.search(r"^count_words +4 +0 +100\.0 MiB +20\.0 MiB +30\.0 MiB$", text, re.M)
    assert "Increments: the median and the largest. 1 of 4 are unclear and left out.\n" in text
    assert "  unclear: results for other tasks were received meanwhile\n" in text
    assert summary.as_dict()["tasks"][0]["unclear_increments"] == 1


def test_where_no_increment_is_clear_the_others_are_shown_with_a_mark(record):
    text = printed(RunSummary.from_records([record(1, increment_bytes=90 * MIB, increment_unclear=UNCLEAR)]))
    assert re.search(r"^count_words .* +~90\.0 MiB +~90\.0 MiB$", text, re.M)
    assert "1 of 1 are unclear and left out; ~ if a task has no others.\n" in text


def test_without_unclear_increments_they_are_not_mentioned(record):
    assert "unclear" not in printed(RunSummary.from_records([record(1)]))


def test_a_run_whose_nodes_were_read_less_often_says_so(record):
    note = "interval lengthened from 0.1 s to 0.2 s at 12:03:11 because copying the new lines of 900 nodes takes 6.0 s"
    summary = RunSummary.from_records([record(1)], provenance={"intervals": [note]})
    assert f"Intervals\n  {note}\n" in printed(summary)
    assert summary.as_dict()["intervals"] == [note]
    assert "Intervals" not in printed(RunSummary.from_records([record(1)]))
