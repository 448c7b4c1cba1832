"""Calls of Slurm's commands, replaced by shell scripts; the other files use a real Slurm."""

from __future__ import annotations

import os

import pytest

from runmem.errors import ClusterError
from runmem.slurm import client
from runmem.slurm.client import (
    JobState,
    job_named,
    job_state,
    jobs_in_queue,
    parse_memory,
    parse_steps,
    recorded_steps,
    refusal,
    running_steps,
    submit,
)
from runmem.units import GIB, KIB, MIB


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("109276K", 109276 * KIB),
        ("1.50G", 3 * GIB // 2),
        ("12M", 12 * MIB),
        ("111898624", 111898624),
        ("2T", 2048 * GIB),
    ],
)
def test_what_slurm_writes_for_a_memory_is_understood(text, size):
    assert parse_memory(text) == size


def test_an_empty_field_is_no_memory():
    assert parse_memory(" ") is None


@pytest.mark.parametrize("text", ["12Q", "12KB", "many", "-3K", "1,5G"])
def test_an_unknown_unit_is_refused_with_what_was_written(text):
    with pytest.raises(ValueError, match=f"Slurm wrote '{text}' for a memory"):
        parse_memory(text)


def test_the_steps_of_a_job_are_read_and_zero_is_no_memory():
    text = "7|||COMPLETED\n7.batch|2048K|1M|COMPLETED\n7.0|0|0|OUT_OF_MEMORY\n7.1|||CANCELLED by 0\n7.2|||RUNNING\n"
    steps = {step.name: step for step in parse_steps(text)}
    assert list(steps) == ["batch", "0", "1", "2"]
    assert (steps["batch"].max_rss_bytes, steps["batch"].ave_rss_bytes) == (2 * MIB, MIB)
    assert (steps["0"].max_rss_bytes, steps["0"].state) == (None, "OUT_OF_MEMORY")
    assert steps["1"].has_ended
    assert not steps["2"].has_ended


def test_a_line_of_sstat_has_no_state():
    (step,) = parse_steps("7.0|2K|1K")
    assert (step.max_rss_bytes, step.has_ended) == (2 * KIB, False)


def test_a_line_that_is_none_is_refused():
    with pytest.raises(ValueError, match="Slurm wrote the line 'sacct: odd'"):
        parse_steps("sacct: odd")


def test_a_job_that_waits_is_told_with_the_reason_of_the_queue(program):
    program("squeue", "echo '12|PENDING|PartitionTimeLimit|N/A'")
    state = job_named("anything")
    assert state.never_starts
    assert str(state).startswith("job 12 is PENDING (PartitionTimeLimit: the queue allows a job less time")


def test_the_queue_tells_each_job_with_its_expected_start(program):
    program("squeue", "echo '12|PENDING|Priority|2030-01-01T00:00:00'; echo '13|RUNNING|None|2026-01-01T00:00:00'; "
                      "echo '14|SUSPENDED|None|2026-01-01T00:00:00'; echo; echo 'slurm: odd'")  # fmt: skip
    waiting, *going = jobs_in_queue(["12", "13", "14"])
    assert waiting == JobState("12", "PENDING", "Priority", expected_start="2030-01-01T00:00:00")
    assert waiting.explanation == "Priority: jobs of a higher priority come first"
    assert [(job.has_ended, job.explanation, job.expected_start) for job in going] == [(False, None, None)] * 2


def test_a_job_that_is_being_started_was_looked_at_by_the_scheduler():
    assert JobState("3", "CONFIGURING", "None").explanation is None
    assert JobState("3", "PENDING", "None").explanation == "None: the scheduler has not looked at it yet"


@pytest.mark.parametrize(
    ("state", "field", "code"),
    [("COMPLETED", "0:0", 0), ("FAILED", "9:0", 9), ("FAILED", "0:11", 139), ("OUT_OF_MEMORY", "0:125", 137),
     ("CANCELLED", "0:0", 143), ("CANCELLED", "1:0", 1), ("REVOKED", "0:0", 1), ("NODE_FAIL", "0:0", 1),
     ("RUNNING", "0:0", None)],
)  # fmt: skip
def test_the_exit_code_of_a_job_is_as_a_shell_has_it(program, state, field, code):
    program("scontrol", f"echo 'JobId=3 JobState={state} Reason=None ExitCode={field}'")
    assert job_state("3").exit_code == code
    program("scontrol", "exit 1")
    program("sacct", f"echo '3|{state}|{field}|n1'")
    assert (job_state("3").exit_code, job_state("3").nodes) == (code, "n1")


def test_the_controller_tells_where_a_job_runs_and_when_one_will_start(program):
    program("scontrol", "echo 'JobId=3 JobState=RUNNING Reason=None StartTime=2026-01-01T00:00:00 NodeList=n[1-2]'")
    assert job_state("3") == JobState("3", "RUNNING", "None", None, "n[1-2]", None)
    program("scontrol", "echo 'JobId=3 JobState=PENDING Reason=Priority StartTime=Unknown NodeList=(null)'")
    assert job_state("3") == JobState("3", "PENDING", "Priority", None, None, None)


@pytest.mark.parametrize("forgotten", ["exit 1", "true", "echo 'slurm_load_jobs error: Invalid job id specified'"])
def test_a_job_that_the_controller_forgot_is_looked_up_in_the_accounting(program, forgotten):
    program("scontrol", forgotten)
    program("sacct", "echo '3|CANCELLED by 0|0:15|n1'")
    assert (job_state("3").state, job_state("3").exit_code) == ("CANCELLED", 143)


@pytest.mark.parametrize(
    ("lines", "state", "code"),
    [
        (("3|CANCELLED by 1234|0:0|n1", "3.batch|FAILED|15:0|n1", "3.extern|COMPLETED|0:0|n1"), "CANCELLED", 143),
        (("3|OUT_OF_MEMORY|0:125|n1", "3.batch|OUT_OF_MEMORY|0:125|n1", "3.extern|COMPLETED|0:0|n1"),
         "OUT_OF_MEMORY", 137),
        (("3|TIMEOUT|0:0|n1", "3.batch|CANCELLED|0:15|n1", "3.0|CANCELLED by 0|0:9|n1"), "TIMEOUT", 143),
        (("3|COMPLETED|0:0|n1", "3.extern|COMPLETED|0:0|n1", "3.0|FAILED|2:0|n1"), "COMPLETED", 0),
        (("3|FAILED||None assigned", "3.batch|||"), "FAILED", 1),
    ],
)  # fmt: skip
def test_the_end_of_a_step_is_not_taken_for_that_of_its_job(program, lines, state, code):
    program("scontrol", "exit 1")
    program("sacct", "".join(f"echo '{line}';" for line in lines))
    assert (job_state("3").state, job_state("3").exit_code) == (state, code)


def test_a_job_that_nobody_knows_is_none(program):
    program("scontrol", "exit 1")
    for answer in ("true", "echo", "echo '3|||'"):
        program("sacct", answer)
        assert job_state("3") is None


@pytest.mark.parametrize("step", ["batch", "extern", "0"])
@pytest.mark.parametrize(
    ("state", "ended"),
    [("COMPLETED", True), ("CANCELLED by 1234", True), ("OUT_OF_MEMORY", True), ("NODE_FAIL", True), ("MELTED", True),
     ("RUNNING", False), ("PENDING", False), ("SUSPENDED", False), ("", False)],
)  # fmt: skip
def test_a_step_has_ended_in_the_states_in_which_a_job_has(program, step, state, ended):
    program("sacct", f"echo '3|||RUNNING'; echo '3.{step}|2K|1K|{state}'")
    (found,) = recorded_steps("3")
    assert (found.name, found.has_ended) == (step, ended)


def test_an_accounting_that_does_not_answer_is_not_one_without_steps(program):
    program("sacct", "exit 1")
    assert recorded_steps("3") is None
    program("sacct", "true")
    assert recorded_steps("3") == []
    program("sstat", "exit 1")
    assert running_steps("3") == []


def test_a_job_that_is_refused_is_told_with_what_is_there_instead(program):
    program("sinfo", "echo debug; echo long; echo debug")
    program("sbatch", "echo 'sbatch: error: invalid partition specified: nope' >&2; exit 1")
    with pytest.raises(
        ClusterError, match=r"sbatch refuses the job \(exit code 1\): .*: nope\n--queue: .* debug, long\."
    ):
        submit("#!/bin/sh")
    assert refusal([]).endswith("--queue: the queues (partitions) here are debug, long.")


def test_a_script_reaches_sbatch_with_its_options_and_environment(program, tmp_path):
    program("sbatch", f"echo \"$@\" $EXTRA >{tmp_path}/seen; cat >>{tmp_path}/seen; echo '12;cluster'")
    environment = {**os.environ, "EXTRA": "extra"}
    assert submit("#!/bin/sh\n", ["--ntasks=1"], environment) == "12"
    assert (tmp_path / "seen").read_text() == "--parsable --ntasks=1 extra\n#!/bin/sh\n"


@pytest.mark.slow
def test_a_controller_that_does_not_answer_in_time_is_an_error_in_one_line(program):
    program("sbatch", "echo 'error: Unable to contact slurm controller' >&2; exec sleep 60")
    with pytest.raises(ClusterError, match="`scontrol ping`"):
        submit("#!/bin/sh", timeout_s=2)
    program("sbatch", "exec sleep 60")
    with pytest.raises(ClusterError, match=r"does not answer within 1 s \(`sbatch --parsable`\)"):
        submit("#!/bin/sh", timeout_s=0.7)
    assert "does not answer" in refusal([], timeout_s=0.2)


def test_commands_that_are_missing_or_fail_are_told_with_what_they_said(program, monkeypatch):
    program("scontrol", "echo 'slurm_load_ctl_conf error: nothing' >&2; exit 1")
    with pytest.raises(ClusterError, match="`scontrol show hostnames 'n\\[1-2\\]'` failed: slurm_load_ctl_conf error"):
        client.host_names("n[1-2]")
    assert "slurm_load_ctl_conf error: nothing" in client.why_no_memory()
    monkeypatch.setenv("PATH", "/nonexistent")
    assert client.missing_command("sacct", "scontrol") == "there is no Slurm here: `sacct` is not on the PATH"
    assert "Slurm does not answer" in client.why_no_memory()
    assert job_state("3") is None
    with pytest.raises(ClusterError, match="`sbatch --parsable` failed: .*No such file"):
        submit("#!/bin/sh")


def test_the_address_of_a_node_is_its_name_where_slurm_has_none(program):
    program("scontrol", "echo 'NodeName=n1 Arch=x86_64 NodeAddr=10.0.0.1 NodeHostName=n1'")
    assert client.node_address("n1") == "10.0.0.1"
    program("scontrol", "echo 'NodeName=n1 Arch=x86_64'")
    assert client.node_address("n1") == "n1"
