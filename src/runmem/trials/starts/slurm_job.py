"""The base of `srun` and `sbatch`: wait for a job, watch it, follow it to its end, and never leave one behind."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from typing import ClassVar

from runmem.slurm.client import cancel, job_named, missing_command, recorded_steps, refusal
from runmem.trials.methods.contract import Method
from runmem.trials.outcome import CommandOutcome, ProcessEnd, Site
from runmem.trials.starts.barrier import JobBarrier, WaitingProcess
from runmem.trials.starts.contract import Start, StartError
from runmem.trials.starts.follower import Follower

__all__ = ["SlurmJob", "without_job"]

_QUEUE_POLL_S = 0.5  # the controller serves many users
_BARRIER_POLL_S = 0.02
_QUIET_S = 2.0  # a job that starts at once is pending for a moment too
_CANCEL_TIMEOUT_S = 20.0
_STEPS_TIMEOUT_S = 3.0  # for the accounting to list the steps of a job that has ended


class SlurmJob(Start):
    """Start the command as a job with one task.

    Assumptions
    -----------
    The nodes see the current folder, which has the output of the command and the barrier.

    Limitations
    -----------
    Methods that watch processes see only those of this machine. If the job runs on another one, or has further steps,
    they have no value. `CommandOutcome.wall_s` is known only on this machine.
    """

    shares_folder = True
    program: ClassVar[str]

    def available(self) -> str | None:
        missing = missing_command(self.program, "sbatch", "squeue", "scontrol", "scancel")
        return missing or refusal(["--ntasks=1", *self.job.arguments()])

    def run(self, command: Sequence[str], methods: Sequence[Method], site: Site) -> CommandOutcome:
        barrier = JobBarrier(site.folder)
        argv = barrier.around(command)
        for method in methods:
            argv = method.wrap(argv)
        name = f"{site.folder.parent.name}-{site.folder.name}"
        try:
            self.begin(argv, name, site)
            waiting = self._wait_for_start(barrier, name)
            return self._watched(waiting, barrier, methods)
        except BaseException:
            self._cancel(name)
            raise

    def begin(self, argv: Sequence[str], name: str, site: Site) -> None:
        """Submit `argv` to Slurm as a job with that name. Raises StartError if Slurm refuses."""
        raise NotImplementedError

    def has_ended(self) -> bool:
        """Return True if the job has ended."""
        raise NotImplementedError

    def finish(self) -> int:
        """Wait for the end of the job and return the command's exit code."""
        raise NotImplementedError

    def job_id(self, waiting: WaitingProcess) -> str:
        """Return the id of the job, with its step if the command is one step of it."""
        raise NotImplementedError

    def message(self) -> str:
        """Return Slurm's message about a job that failed to start."""
        return ""

    def options(self, name: str, site: Site) -> list[str]:
        """Return the options of the job."""
        cpus = [f"--cpus-per-task={len(site.cpus)}"] if site.cpus else []
        files = [f"--output={site.stdout}", f"--error={site.stderr}"]
        return ["--ntasks=1", *cpus, f"--job-name={name}", *files, *self.job.arguments()]

    def _wait_for_start(self, barrier: JobBarrier, name: str) -> WaitingProcess:
        began_s, next_poll_s, state, reported = time.monotonic(), 0.0, None, ""
        deadline_s = began_s + self.job.wait_s
        while True:
            if (waiting := barrier.waiting_process()) is not None:
                return waiting
            now = time.monotonic()
            if now >= next_poll_s:
                next_poll_s = now + _QUEUE_POLL_S
                state = job_named(name) or state
                if state is not None and state.never_starts:
                    raise StartError(f"{state}, and will never start as it is; it was cancelled")
                if state is not None and state.is_waiting and now > began_s + _QUIET_S and str(state) != reported:
                    reported = str(state)
                    self.say(reported)
                if self.has_ended() and barrier.waiting_process() is None:
                    reason = self.message() or state or "Slurm gives no reason"
                    raise StartError(f"the job ended before the command began: {reason}")
            if now >= deadline_s:
                late = f"the job has not started within {self.job.wait_s:g} s (--job_wait)"
                raise StartError(f"{late}: {state or 'the queue has no such job'}; it was cancelled")
            time.sleep(_BARRIER_POLL_S)

    def _watched(self, waiting: WaitingProcess, barrier: JobBarrier, methods: Sequence[Method]) -> CommandOutcome:
        job, reasons, ended_s = self.job_id(waiting), dict[str, str](), None
        follower, unseen = _follower(waiting, any(method.traces for method in methods))
        processes: tuple[ProcessEnd, ...] = ()
        try:
            if follower is not None and follower.reason is not None:
                untraced = f"the command cannot be traced: {follower.reason}"
                reasons.update({method.name: untraced for method in methods if method.traces})
            self.watch(methods, waiting.pid if unseen is None else None, reasons, job)
            released_s = time.monotonic()
            barrier.open(self.has_ended)
            if follower is not None:
                ended_s = follower.wait(self.has_ended)
                processes = follower.processes()
            code = self.finish()
        finally:
            if follower is not None:
                follower.close()
        steps = _other_steps(job, processes)
        unseen, others = unseen or steps, waiting.tasks > 1 or steps is not None
        return CommandOutcome(
            exit_code=code,
            wall_s=ended_s - released_s if ended_s is not None else None,
            pid=waiting.pid if unseen is None else None,
            processes=processes if unseen is None else (),
            job=job,
            reasons=reasons,
            unseen=unseen,
            has_other_parts=others,
            stopped_s=follower.stopped_s if follower is not None else None,
        )

    def _cancel(self, name: str) -> None:
        """Cancel the job and wait until Slurm has cleaned up."""
        deadline = time.monotonic() + _CANCEL_TIMEOUT_S
        while (state := job_named(name)) is not None and time.monotonic() < deadline:
            cancel(state.job)
            time.sleep(_BARRIER_POLL_S if state.state == "COMPLETING" else _QUEUE_POLL_S)
        self.abandon()

    def abandon(self) -> None:
        """End the processes that `begin` started on this machine."""


def _other_steps(job: str, processes: Sequence[ProcessEnd]) -> str | None:
    """Return a remark on further steps of a job, whose processes the methods cannot watch; None if there are none.

    The accounting may be late, so a process named srun is evidence too.
    """
    if any(process.name == "srun" for process in processes):
        return "the command starts steps with srun, whose processes are not its descendants"
    if "." in job:
        return None
    deadline_s = time.monotonic() + _STEPS_TIMEOUT_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(ValueError):
            steps = recorded_steps(job)
            if steps is None:
                return None
            others = [step.step for step in steps if step.name not in ("batch", "extern")]
            if others:
                return f"the job has further steps ({', '.join(others)}), whose processes are not its descendants"
            if any(step.name == "batch" and step.has_ended for step in steps):
                return None
        time.sleep(_QUEUE_POLL_S / 2)
    return None


def _follower(waiting: WaitingProcess, trace: bool) -> tuple[Follower | None, str | None]:
    """Return a follower of the process, or None and the reason why it cannot be followed."""
    if waiting.unseen is not None:
        return None, waiting.unseen
    try:
        return Follower(waiting.pid, trace), None
    except OSError as error:  # it was killed at the barrier, or the kernel is older than Linux 5.3
        return None, f"the process of the job cannot be followed: {error}"


def without_job() -> dict[str, str]:
    """Return the environment without the variables of the job that the trial itself may run in."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SLURM_") or name == "SLURM_CONF"}
