"""End states of jobs on a real Slurm, from the controller and the accounting."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runmem.slurm.client import JobState, cancel, job_state, jobs_in_queue, submit

HANDLES_SIGTERM = "trap 'exit {code}' TERM; touch ready; sleep 100 & wait"


@pytest.fixture
def ended(folder: Path, eventually: Callable[..., Any]) -> Iterator[Callable[..., JobState]]:
    """Return a function that submits a script, cancels it where that is asked, and returns how the job ended."""
    jobs: list[str] = []

    def run(script: str, *options: str, cancel_when: Callable[[], bool] | None = None) -> JobState:
        jobs.append(submit(f"#!/bin/sh\n{script}\n", ["--ntasks=1", "--output=out", *options]))
        if cancel_when is not None:
            eventually(cancel_when)
            cancel(jobs[-1])

        def ended_state() -> JobState | None:
            state = job_state(jobs[-1])
            return state if state is not None and state.has_ended else None

        return eventually(ended_state)

    yield run
    for job in jobs:
        cancel(job)


@pytest.mark.parametrize(
    ("script", "state", "code"),
    [("exit 0", "COMPLETED", 0), ("exit 9", "FAILED", 9), ("exit 143", "FAILED", 143), ("exit 255", "FAILED", 255),
     ("kill -9 $$", "FAILED", 137), ("kill -TERM $$", "FAILED", 143), ("kill -SEGV $$", "FAILED", 139)],
)  # fmt: skip
def test_the_exit_code_of_a_job_is_that_of_its_script_in_a_shell(
    ended: Callable[..., JobState], tmp_path: Path, script: str, state: str, code: int
) -> None:
    shown = subprocess.run(["bash", "-c", f"sh -c '{script}'; exit $?"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    assert shown.returncode == code
    found = ended(script)
    assert (found.state, found.exit_code, found.explanation) == (state, code, None)


@pytest.mark.parametrize("code", [1, 143, 0])
def test_a_cancelled_job_whose_program_handles_the_signal_keeps_its_code_unless_that_is_0(
    ended: Callable[..., JobState], folder: Path, code: int
) -> None:
    found = ended(HANDLES_SIGTERM.format(code=code), cancel_when=(folder / "ready").exists)
    assert (found.state, found.exit_code) == ("CANCELLED", code or 143)


def test_a_job_that_is_cancelled_before_it_starts_has_not_succeeded(ended: Callable[..., JobState]) -> None:
    found = ended("true", "--begin=now+1hour", cancel_when=lambda: True)
    assert (found.state, found.exit_code) == ("CANCELLED", 143)


def test_a_job_that_waits_tells_why_and_when_it_starts(folder: Path, eventually: Callable[..., Any]) -> None:
    job = submit("#!/bin/sh\ntrue\n", ["--begin=now+1hour"])
    try:
        eventually(lambda: [found.reason for found in jobs_in_queue([job])] == ["BeginTime"])
        (in_queue,), shown = jobs_in_queue([job]), job_state(job)
        assert shown is not None
        for found in (in_queue, shown):
            assert found.is_waiting
            assert not found.has_ended
            assert found.explanation == "BeginTime: its begin time has not been reached"
            assert found.expected_start is not None
    finally:
        cancel(job)


def test_a_job_that_never_was_is_none(folder: Path) -> None:
    assert job_state("999999") is None
