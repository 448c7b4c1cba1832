"""`sacct` and `sstat` with programs in their place that answer as Slurm does; tests/slurm has the real ones."""

from __future__ import annotations

import pytest

from runmem.trials.methods import METHODS
from runmem.trials.outcome import CommandOutcome, Site
from runmem.units import MIB


def collected(name, job, **options):
    return {reading.column: reading for reading in METHODS[name](**options).collect(CommandOutcome(0, job=job))}


def test_the_largest_step_is_measured_and_the_batch_step_is_a_wrapper(program):
    program("sacct", "printf '7|||COMPLETED\\n7.batch|3M|3M|COMPLETED\\n7.0|400M|40M|COMPLETED\\n'")
    readings = collected("sacct", "7")
    assert readings["sacct MaxRSS"].size_bytes == 400 * MIB
    assert readings["sacct AveRSS"].size_bytes == 40 * MIB
    assert readings["sacct batch"].size_bytes == 3 * MIB
    assert [reading.is_partial for reading in readings.values()] == [False, False, True]


def test_a_late_record_is_awaited(program, tmp_path):
    seen = tmp_path / "asked"
    program("sacct", f"if [ -e {seen} ]; then echo '7.batch|3M|3M|COMPLETED'; else touch {seen}; fi")
    assert collected("sacct", "7")["sacct MaxRSS"].size_bytes == 3 * MIB


def test_a_step_that_still_runs_in_the_accounting_is_waited_for(program, tmp_path):
    seen = tmp_path / "asked"
    program("sacct", f"if [ -e {seen} ]; then echo '7.0|3M|3M|COMPLETED'; else touch {seen}; echo '7.0|||RUNNING'; fi")
    assert collected("sacct", "7.0")["sacct MaxRSS"].size_bytes == 3 * MIB


def test_a_step_recorded_after_the_end_of_its_job_is_awaited(program, tmp_path):
    seen, batch = tmp_path / "asked", "7.batch|3M|3M|COMPLETED"
    late = f"echo '{batch}'; echo '7.0|||COMPLETED'; touch {seen}"
    program("sacct", f"if [ -e {seen} ]; then echo '{batch}'; echo '7.0|400M|40M|COMPLETED'; else {late}; fi")
    assert collected("sacct", "7")["sacct MaxRSS"].size_bytes == 400 * MIB


@pytest.mark.parametrize("field", ["0", ""])
def test_steps_of_which_one_has_no_memory_are_a_part_and_named(program, field):
    program("sacct", f"echo '7.extern|0|0|COMPLETED'; echo '7.batch|3M|3M|COMPLETED'; echo '7.0|{field}||COMPLETED'")
    reading = collected("sacct", "7", record_s=0.3)["sacct MaxRSS"]
    assert (reading.size_bytes, reading.is_partial) == (3 * MIB, True)
    assert reading.reason.endswith("no memory of 0 is recorded")


def test_a_record_that_never_comes_is_no_value_with_the_reason(program):
    program("sacct", "true")
    for reading in collected("sacct", "7", record_s=0.3).values():
        assert reading.size_bytes is None
        assert "no record of job 7" in reading.reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [("7.batch|0|0|OUT_OF_MEMORY", "killed for memory"), ("7.batch|0|0|COMPLETED", "before Slurm's first poll")],
)
def test_zero_is_never_a_memory(program, line, reason):
    program("sacct", f"echo '{line}'")
    for reading in collected("sacct", "7").values():
        assert reading.size_bytes is None
        assert reason in reading.reason


def test_a_step_of_srun_has_no_batch_step(program):
    program("sacct", "echo '7.0|3M|3M|COMPLETED'")
    assert collected("sacct", "7.0")["sacct batch"].reason == "a step of srun has no batch step"


def test_an_unknown_unit_is_an_error_that_shows_it(program):
    program("sacct", "echo '7.batch|3X|3M|COMPLETED'")
    with pytest.raises(ValueError, match="'3X'"):
        collected("sacct", "7")


def test_the_highest_that_sstat_showed_is_told(program, tmp_path, eventually):
    answers = tmp_path / "answers"
    answers.write_text("7.0|5M|2M\n7.0|9M|3M\n7.0|4M|1M\n")
    program("sstat", f"head -n 1 {answers}; sed -i 1d {answers}")
    method = METHODS["sstat"](least_interval_s=0.01)
    method.prepare(Site(tmp_path, 0.01))
    method.watch_job("7")
    eventually(lambda: not answers.read_text())
    readings = {reading.column: reading.size_bytes for reading in method.collect(CommandOutcome(0, job="7"))}
    assert readings == {"sstat MaxRSS": 9 * MIB, "sstat AveRSS": 3 * MIB}


def test_sstat_without_output_has_no_value(program, tmp_path):
    program("sstat", "true")
    method = METHODS["sstat"]()
    method.prepare(Site(tmp_path))
    method.watch_job("7")
    assert {reading.size_bytes for reading in method.collect(CommandOutcome(0, job="7"))} == {None}


@pytest.mark.parametrize("name", ["sacct", "sstat"])
def test_without_slurm_there_is_a_reason(name, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "there is no Slurm here" in METHODS[name]().available()


@pytest.mark.parametrize("name", ["sacct", "sstat"])
def test_without_gathered_memory_there_is_a_reason(name, program):
    for each in ("sacct", "sstat"):
        program(each, "true")
    program("scontrol", "echo 'JobAcctGatherType = jobacct_gather/none'")
    assert METHODS[name]().available() == "Slurm gathers no memory here (JobAcctGatherType)"
