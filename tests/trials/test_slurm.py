from __future__ import annotations

import pytest

from runmem.trials.slurm import JobOptions, job_named, job_state, parse_memory, parse_steps
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
    assert (steps["0"].max_rss_bytes, steps["0"].was_killed_for_memory) == (None, True)
    assert steps["1"].has_ended
    assert not steps["2"].has_ended


def test_a_line_of_sstat_has_no_state():
    (step,) = parse_steps("7.0|2K|1K")
    assert (step.max_rss_bytes, step.has_ended) == (2 * KIB, False)


def test_a_line_that_is_none_is_refused():
    with pytest.raises(ValueError, match="Slurm wrote the line 'sacct: odd'"):
        parse_steps("sacct: odd")


def test_the_options_of_a_job_are_those_of_srun_and_sbatch():
    assert JobOptions("debug", ("--mem=2G",)).words() == ["--partition=debug", "--mem=2G"]
    assert JobOptions().words() == []


def test_a_job_that_waits_is_told_with_the_reason_of_the_queue(program):
    program("squeue", "echo '12|PENDING|PartitionTimeLimit'")
    state = job_named("anything")
    assert state.is_hopeless
    assert str(state).startswith("job 12 is PENDING (PartitionTimeLimit: the queue allows a job less time")


@pytest.mark.parametrize(
    ("state", "field", "code"),
    [("COMPLETED", "0:0", 0), ("FAILED", "9:0", 9), ("FAILED", "0:11", 139), ("OUT_OF_MEMORY", "0:125", 137),
     ("CANCELLED", "0:0", 143), ("NODE_FAIL", "0:0", 1), ("RUNNING", "0:0", None)],
)  # fmt: skip
def test_the_exit_code_of_a_job_is_as_a_shell_has_it(program, state, field, code):
    program("scontrol", f"echo 'JobId=3 JobState={state} Reason=None ExitCode={field}'")
    assert job_state("3").exit_code == code


def test_a_job_that_the_controller_forgot_is_looked_up_in_the_accounting(program):
    program("scontrol", "exit 1")
    program("sacct", "echo 'CANCELLED by 0|0:15'")
    assert (job_state("3").state, job_state("3").exit_code) == ("CANCELLED", 143)


def test_a_job_that_nobody_knows_is_none(program):
    program("scontrol", "exit 1")
    program("sacct", "true")
    assert job_state("3") is None
