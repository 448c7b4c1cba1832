"""The job script, tested without Slurm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runmem.cli.submit import parse_exec_time
from runmem.errors import ClusterError, SettingError
from runmem.submission import BATCH_SYSTEMS, JobRequest
from runmem.units import GIB, MIB

SLURM = BATCH_SYSTEMS["slurm"]()
JOB = JobRequest(command=("app.py",), runmem_options=(), python="/env/bin/python", folder=Path("/home/me"), name="app")


def options(job: JobRequest) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in SLURM.script(job).splitlines() if line.startswith("#SBATCH")]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("1:30:00", 5400), ("01:30:00", 5400), ("2-00:00:01", 172801), ("0:00:30", 30)],
)
def test_a_time_is_minutes_or_a_clock(text: str, seconds: int) -> None:
    assert parse_exec_time(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5", "10:00", "1h", "1:60:00", "1.5"])
def test_another_time_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="minutes, such as 90, or HH:MM:SS"):
        parse_exec_time(text)


def test_nothing_asked_gives_a_whole_node_with_all_its_memory() -> None:
    assert "--exclusive" in options(JOB)
    assert "--mem=0" in options(JOB)
    assert '--workers "$SLURM_CPUS_ON_NODE"' in SLURM.script(JOB)
    assert "--cluster" not in SLURM.script(JOB)


def test_workers_and_their_memory_give_cores_and_memory_of_the_node() -> None:
    job = replace(JOB, num_nodes=3, workers_per_node=4, worker_memory_bytes=2 * GIB)
    assert {"--nodes=3", "--ntasks-per-node=1", "--cpus-per-task=4", "--mem=9216M"} <= set(options(job))
    script = SLURM.script(job)
    assert "--cluster allocation" in script
    assert "--workers 12" in script


def test_the_options_of_pycompss_are_those_of_slurm() -> None:
    job = replace(
        JOB, queue="long", qos="high", reservation="talk", project_name="p1", constraints="gpu&new",
        job_dependency="12", exec_time_s=600, extra_submit_flags=("--nice=10", "--mail-type END"),
    )  # fmt: skip
    assert {
        "--partition=long", "--qos=high", "--reservation=talk", "--account=p1", "--constraint='gpu&new'",
        "--dependency=afterany:12", "--time=00:10:00", "--nice=10", "--mail-type END",
    } <= set(options(job))  # fmt: skip
    assert "--dependency=afterok:12" in options(replace(JOB, job_dependency="afterok:12"))


def test_arguments_keep_their_spaces_and_quotes() -> None:
    script = SLURM.script(replace(JOB, command=("my app.py", "it's", "$HOME")))
    assert script.endswith("""    -- 'my app.py' 'it'"'"'s' '$HOME'\n""")


@pytest.mark.parametrize(("given", "written"), [("4GiB", "4096M"), ("1.5G", "1536M"), ("4GB", "3815M"), ("4G", "4G")])
def test_memory_in_a_unit_that_slurm_does_not_know_is_converted(given: str, written: str) -> None:
    assert f"--mem={written}" in options(replace(JOB, extra_submit_flags=(f"--mem={given}",)))


def test_memory_in_no_unit_is_refused() -> None:
    with pytest.raises(SettingError, match=r"--mem=4X.*K, M, G or T"):
        SLURM.script(replace(JOB, extra_submit_flags=("--mem=4X",)))


@pytest.mark.parametrize("flag", ["nice=10", "--a\n#SBATCH --b", ""])
def test_what_is_no_option_is_refused(flag: str) -> None:
    with pytest.raises(SettingError, match="not an option of sbatch"):
        SLURM.script(replace(JOB, extra_submit_flags=(flag,)))


def test_workers_that_do_not_fit_into_the_node_are_refused() -> None:
    job = replace(JOB, workers_per_node=4, worker_memory_bytes=GIB, node_memory_bytes=2000 * MIB)
    with pytest.raises(SettingError, match=r"2\.0 GiB is less than the 4\.0 GiB that 4 workers"):
        SLURM.script(job)


def test_a_machine_without_slurm_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="`sbatch` is not on the PATH"):
        SLURM.check()
