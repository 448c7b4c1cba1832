"""How jobs of Slurm ended, in the words of its commands; tests/slurm asks a real Slurm."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runmem.collection.job_ends import JobEnds
from runmem.collection.killed_tasks import advice
from runmem.deaths import Cause, Death
from runmem.store.batch_job import SLURM, BatchJob
from runmem.units import MIB

Program = Callable[[str, str], None]
Eventually = Callable[..., Death]

LOST = Death(Cause.NODE_GONE, "the node was lost", missing="only there")
SEEN = "12|FAILED|\n12.batch|CANCELLED by 0|572223488\n"  # on 22.05 with OverMemoryKill
JOB = BatchJob(SLURM, "12", None, 300 * MIB)


@pytest.mark.parametrize(
    ("state", "account", "cause", "words"),
    [
        ("OUT_OF_MEMORY|OutOfMemory", "", Cause.SLURM_LIMIT,
         "Slurm ended job 12 for its memory (OUT_OF_MEMORY): it may use 300.0 MiB on a node"),
        ("TIMEOUT|TimeLimit", "", Cause.TIME_LIMIT, "Slurm ended job 12 at its time limit (TIMEOUT)"),
        ("NODE_FAIL|NodeDown", "", Cause.NODE_GONE, "a node of job 12 of Slurm failed (NODE_FAIL)"),
        ("PREEMPTED|None", "", Cause.NODE_GONE,
         "Slurm ended job 12 for one of higher priority (PREEMPTED)"),
        ("CANCELLED|None", "12|CANCELLED by 0|\n12.batch|CANCELLED|2097152\n", Cause.NODE_GONE,
         "job 12 of Slurm was cancelled by root (CANCELLED)"),
        ("CANCELLED|None", "12|CANCELLED by 4294967294|\n", Cause.NODE_GONE,
         "job 12 of Slurm was cancelled by 4294967294 (CANCELLED)"),
        ("CANCELLED|None", "", Cause.NODE_GONE, "job 12 of Slurm was cancelled (CANCELLED)"),
        ("FAILED|NonZeroExitCode", "", Cause.NODE_GONE, "job 12 of Slurm has ended (FAILED, NonZeroExitCode)"),
        ("FAILED|JobLaunchFailure", SEEN, Cause.SLURM_LIMIT,
         "job 12 of Slurm has ended (FAILED, JobLaunchFailure), as it seems for its memory: it had used 545.7 MiB, and "
         "may use 300.0 MiB"),
        ("PENDING|BeginTime", "", Cause.NODE_GONE,
         "Slurm ended job 12 and put it back into the queue (PENDING): a node of it failed, or a job of "
         "higher priority needed its place"),
        ("RUNNING|None", "", Cause.NODE_GONE, "the node was lost; job 12 of Slurm is still RUNNING"),
    ],
)  # fmt: skip
def test_the_end_of_a_job_is_the_cause_of_a_death_in_it(
    program: Program, eventually: Eventually, state: str, account: str, cause: Cause, words: str
) -> None:
    program("squeue", f"echo '12|{state}|N/A'")
    program("sacct", f"printf '{account}'")
    ends = JobEnds(patience_s=1 if state == "RUNNING|None" else 30)
    death = eventually(lambda: ends.death(("n", 1), JOB, LOST))
    assert (death.cause, death.words, death.missing) == (cause, words, "only there")
    assert death.is_for_memory == (cause is Cause.SLURM_LIMIT)
    assert death.limit_bytes == (300 * MIB if death.is_for_memory else None)


def test_the_step_of_a_worker_may_end_before_its_job(program: Program, eventually: Eventually) -> None:
    program("squeue", "echo '12|RUNNING|None|N/A'")
    program("sacct", "printf '12|RUNNING|\\n12.batch|RUNNING|\\n12.3|OUT_OF_MEMORY|9\\n'")
    ends = JobEnds()
    death = eventually(lambda: ends.death(("n", 1), JOB._replace(step="3"), LOST))
    assert death.cause is Cause.SLURM_LIMIT


def test_an_end_that_slurm_notes_a_moment_later_is_found(
    program: Program, eventually: Eventually, tmp_path: Path
) -> None:
    program("squeue", f"[ -e {tmp_path}/asked ] && echo '12|TIMEOUT|TimeLimit|N/A' || echo '12|RUNNING|None|N/A'; "
                      f"touch {tmp_path}/asked")  # fmt: skip
    ends = JobEnds(patience_s=30)
    death = eventually(lambda: ends.death(("n", 1), JOB, LOST))
    assert death.cause is Cause.TIME_LIMIT
    assert "more time" in advice(death)


def test_very_many_jobs_are_asked_about_together(program: Program, eventually: Eventually, tmp_path: Path) -> None:
    program("squeue", f"echo x >>{tmp_path}/calls; "
                      "for job in $(echo $5 | tr , ' '); do echo \"$job|TIMEOUT|TimeLimit|N/A\"; done")  # fmt: skip
    ends = JobEnds(patience_s=30)
    jobs = {("n", number): JOB._replace(number=str(number)) for number in range(1000)}
    found: dict[tuple[str, int], Death] = {}

    def all_are_known() -> bool:
        for process, job in jobs.items():
            if process not in found and (death := ends.death(process, job, LOST)) is not None:
                found[process] = death
        return len(found) == len(jobs)

    eventually(all_are_known)
    assert {death.words for death in found.values()} == {
        f"Slurm ended job {number} at its time limit (TIMEOUT)" for number in range(1000)
    }
    assert len((tmp_path / "calls").read_text().split()) <= 3  # the first may be made for the first few
    eventually(lambda: not ends.is_asking)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "there is no Slurm here: `squeue` is not on the PATH"),
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1",
         "Unable to contact slurm controller"),
        ("sleep 5", "Slurm did not say in time how that ended"),
        ("true", "Slurm did not say in time how that ended"),
    ],
)  # fmt: skip
def test_without_an_answer_the_job_is_named(
    program: Program, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, script: str | None, words: str
) -> None:
    if script is None:
        monkeypatch.setenv("PATH", "")
    else:
        program("squeue", script)
    ends = JobEnds(patience_s=0.3)
    death = eventually(lambda: ends.death(("n", 1), JOB, LOST), 3)
    assert death.cause is Cause.NODE_GONE
    assert death.words.startswith("the node was lost; it ran in job 12 of Slurm (")
    assert words in death.words


def test_the_job_of_another_system_is_named_at_once() -> None:
    death = JobEnds().death(("n", os.getpid()), BatchJob("PBS", "7.server"), LOST)
    assert death is not None
    assert (death.cause, death.words) == (Cause.NODE_GONE, "the node was lost; it ran in job 7.server of PBS")
