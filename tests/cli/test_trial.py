from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from runmem.cli import main
from runmem.cli.trial import command
from runmem.errors import SettingError
from runmem.trials.report.recorded import read_trial
from runmem.trials.report.results import results_of

GROW = "import sys; x = bytearray(int(sys.argv[1]) << 20); import time; time.sleep(0.3)"


def trial(*words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words], standalone_mode=False)


@pytest.mark.slow
def test_a_folder_holds_all_that_is_needed_to_repeat_and_to_look(tmp_path: Path):
    out = tmp_path / "out"
    result = trial(
        "--repeat", 2, "--methods", "hwm,tree,time", "--sweep", "n=20,60", "--baseline", "true", "--warmup", 1,
        "--control", "one:32MiB", "--output", out, "--", sys.executable, "-c", GROW, "{n}",
    )  # fmt: skip
    assert result.exception is None
    assert result.return_value == 0
    document = json.loads((out / "trial.json").read_text())
    known = {(e["label"], e["repeat"]) for e in document["executions"] if e["role"] == "command" and not e["warmup"]}
    assert known == {(label, number) for label in ("n=20", "n=60") for number in (1, 2)}
    by_label = {row["label"]: row for row in document["statistics"] if row["column"] == "hwm"}
    grown = by_label["n=60"]["mean_bytes"] - by_label["n=20"]["mean_bytes"]
    assert grown == pytest.approx(40 * 2**20, abs=2**20)
    assert by_label["n=60"]["ratio_to_baseline"] > 10
    assert {"start": "local", "column": "hwm"} in document["trusted"]
    (slope,) = next(fit for fit in document["fits"] if fit["column"] == "hwm")["slopes"]
    assert slope["low"] <= 2**20 * 1.05
    assert slope["high"] >= 2**20 * 0.95
    assert document["provenance"]["kernel"]
    assert document["plan"]["seed"] == 0
    rows = list(csv.DictReader((out / "executions.csv").open()))
    assert {row["n"] for row in rows} == {"20", "60", ""}
    measured = [row for row in rows if row["hwm_bytes"]]  # not those that run without it, where it holds them up
    assert {row["n"] for row in measured} == {"20", "60", ""}
    assert all(int(row["hwm_bytes"]) > 2**20 for row in measured)
    assert "| n=60 | hwm |" in (out / "trial.md").read_text()
    for figure in ("methods.png", "sweep-n.png"):
        assert (out / figure).read_bytes().startswith(b"\x89PNG")
    again = results_of(read_trial(out / "trial.json"))
    assert again.sentences() == document["verdict"]
    assert [cell.spread.mean for cell in again.cells] == [row["mean_bytes"] for row in document["statistics"]]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_order_and_another_another():
    def order(seed: int) -> list[str]:
        words = [
            "--repeat",
            3,
            "--methods",
            "rusage",
            "--control",
            "none",
            "--seed",
            seed,
            "--sweep",
            "n=1,2,3",
            "--json",
        ]
        result = trial(*words, "--", "echo", "{n}")
        return [each["label"] for each in json.loads(result.stdout)["executions"]]

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_a_command_that_fails_ends_the_trial_with_its_output_and_exit_code():
    result = trial("--methods", "hwm", "--control", "none", "--", "sh", "-c", "echo oh no >&2; exit 7")
    assert result.return_value == 7
    assert "oh no" in result.stderr
    assert "failed with exit code 7" in result.stderr


def test_with_keep_going_the_other_executions_go_on(tmp_path: Path):
    words = ["--repeat", 2, "--methods", "hwm", "--control", "none", "--keep-going", "--json", "--sweep", "n=3,0"]
    result = trial(*words, "--", "sh", "-c", "exit {n}")
    assert result.return_value == 3
    executions = json.loads(result.stdout)["executions"]
    assert sorted(each["exit_code"] for each in executions) == [0, 0, 3, 3]


def test_a_killed_command_gives_128_and_the_signal():
    assert trial("--methods", "time", "--control", "none", "--", "sh", "-c", "kill -9 $$").return_value == 137


def test_in_a_pipe_the_tables_have_no_control_characters():
    result = trial("--repeat", 1, "--methods", "hwm,rusage", "--control", "none", "--", "true")
    assert "\x1b" not in result.stdout
    assert "MiB" in result.stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--methods", "massif", "--", "true"], "the methods are hwm"),
        (["--start", "pigeon", "--", "true"], "the ways are local, srun, sbatch"),
        (["--control", "huge", "--", "true"], "the patterns are one"),
        (["--interval", "0", "--", "true"], "from 0.01 to 3600"),
        (["--start", "srun", "--extra_submit_flag=--mem=4X", "--", "true"], r"--mem=4X.*K, M, G or T"),
        (["--start", "srun", "--extra_submit_flag=nice", "--", "true"], "not an option of sbatch"),
        (["--cores", "a", "--", "true"], "expected numbers of processors"),
        (["--sweep", "n=1", "--", "true"], r"the command has no \{n\}"),
        (["--", "echo", "{n}"], "there is no --sweep n"),
        (["--", "no-such-program-at-all"], "is not on the PATH"),
        (["--baseline", "no-such-program-at-all x", "--", "true"], "is not on the PATH"),
        (["--baseline", "'", "--", "true"], "No closing quotation"),
        (["--output", "/proc/nowhere", "--", "true"], "nothing can be written there"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_runs(words, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match=complaint) as caught:
        raise trial(*words).exception
    assert caught.value.exit_code == 2


def test_a_folder_with_a_trial_is_not_written_over(tmp_path: Path):
    (tmp_path / "trial.json").write_text("{}")
    assert "contains a trial already" in str(trial("--output", tmp_path, "--", "true").exception)


@pytest.mark.parametrize("words", [["--repeat", "0", "--", "true"], ["--repeat", "2"]])
def test_no_repeat_or_no_command_is_exit_code_2(words):
    with pytest.raises(SystemExit) as ended:
        main(["trial", *words])
    assert ended.value.code == 2


def test_what_is_no_trial_is_refused(tmp_path: Path):
    (tmp_path / "trial.json").write_text('{"plan": 3}')
    with pytest.raises(SettingError, match="is not a trial.json of this version"):
        read_trial(tmp_path / "trial.json")
    with pytest.raises(SettingError, match="cannot be read"):
        read_trial(tmp_path / "none.json")


def test_overhead_runs_the_command_without_a_method_too_and_compares(tmp_path: Path):
    out = tmp_path / "out"
    result = trial("--overhead", "--repeat", 2, "--methods", "rusage", "--control", "none", "--output", out, "--json",
                   "--", "sleep", "0.1")  # fmt: skip
    document = json.loads(result.stdout)
    assert sorted(each["watched_by"] for each in document["executions"]) == ["all methods"] * 2 + ["nothing"] * 2
    (told,) = document["overheads"]
    assert {each["watched_by"]: len(each["seconds"]) for each in told["walls"]} == {"all methods": 2, "nothing": 2}
    assert "## Wall time" in (out / "trial.md").read_text()
    assert results_of(read_trial(out / "trial.json")).sentences() == document["verdict"]


FILES = ("trial.json", "executions.csv", "statistics.csv", "trial.md", "methods.png", "sweep-n.png")


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_folder_that_could_not_be_written_is_refused_before_anything_runs(name, make_target, tmp_path):
    target = make_target("socket", tmp_path / name)
    result = trial("--sweep", "n=1,2", "--output", tmp_path, "--", "touch", tmp_path / "ran", "{n}")
    if name == "trial.json":
        assert "contains a trial already" in str(result.exception)
    else:
        assert str(result.exception) == f"--output {target.path} cannot be written: it is a socket. Name another file."
    target.check()
    assert not (tmp_path / "ran").exists()


def test_the_files_of_a_trial_are_written_to_what_is_there(make_target, tmp_path):
    kinds = ("link to nothing", "device", "link to a file", "pipe", "link to a device", "link to a file")
    targets = [make_target(kind, tmp_path / name) for name, kind in zip(FILES, kinds, strict=True)]
    result = trial(
        "--repeat", 1, "--methods", "rusage", "--control", "none", "--sweep", "n=1,2", "--output", tmp_path, "--",
        "echo", "{n}",
    )  # fmt: skip
    assert result.exception is None
    for target in targets:
        target.check()
    assert json.loads(targets[0].content())["verdict"]
    assert targets[3].content().startswith(b"# Memory trial")
    assert targets[5].content().startswith(b"\x89PNG")


def test_a_file_of_the_folder_that_is_not_of_a_trial_stays(tmp_path):
    (tmp_path / ".trial").write_text("mine")
    trial("--repeat", 1, "--methods", "rusage", "--control", "none", "--output", tmp_path, "--", "true")
    assert (tmp_path / ".trial").read_text() == "mine"
    assert (tmp_path / "trial.json").exists()
