"""What `srun` and `sbatch` have in common: a job is waited for, watched, followed to its end, and never left behind."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from typing import ClassVar

from runmem.slurm.client import cancel, job_named, missing_command, recorded_steps, refusal
from runmem.trials.methods.contract import Method
from runmem.trials.outcome import Outcome, ProcessEnd, Site
from runmem.trials.starts.barrier import JobBarrier, WaitingProcess
from runmem.trials.starts.contract import Start, StartError
from runmem.trials.starts.follower import Follower

__all__ = ["SlurmJob"]

_LOOK_S = 0.5  # between two questions to the controller, which serves many users
_PAUSE_S = 0.02
_QUIET_S = 2.0  # a job that starts at once is pending for a moment too
_CANCEL_S = 20.0
_STEPS_S = 3.0  # that the accounting may take to list the steps of a job that is over


class SlurmJob(Start):
    """Starts the command as a job of one task.

    Assumptions
    -----------
    The current folder is the same on the nodes: the output of the command and the barrier are in it.

    Limitations
    -----------
    Methods that watch processes see those of this machine. Where the job runs on another one, or has further steps,
    they give no value. `Outcome.wall_s` is known on this machine alone.
    """

    shares_folder: ClassVar[bool] = True
    program: ClassVar[str]

    def available(self) -> str | None:
        """Find what is missing, or why Slurm would refuse every job."""
        missing = missing_command(self.program, "sbatch", "squeue", "scontrol", "scancel")
        return missing or refusal(["--ntasks=1", *self.job.arguments()])

    def run(self, command: Sequence[str], methods: Sequence[Method], site: Site) -> Outcome:
        """Start `command` as a job, wait for its end, and return how it was."""
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
        """Have Slurm start `argv` as a job of that name. Raises StartError if it refuses."""
        raise NotImplementedError

    def has_ended(self) -> bool:
        """Check whether the job is over."""
        raise NotImplementedError

    def finish(self) -> int:
        """Wait for the end of the job and return the command's exit code."""
        raise NotImplementedError

    def number(self, waiting: WaitingProcess) -> str:
        """Give the number of the job, with its step where the command is one step of it."""
        raise NotImplementedError

    def message(self) -> str:
        """Give the message of Slurm's program about a job that failed to start."""
        return ""

    def options(self, name: str, site: Site) -> list[str]:
        """List the options of the job."""
        cpus = [f"--cpus-per-task={len(site.cpus)}"] if site.cpus else []
        return ["--ntasks=1", *cpus, f"--job-name={name}", f"--output={site.stdout}", f"--error={site.stderr}",
                *self.job.arguments()]  # fmt: skip

    def _wait_for_start(self, barrier: JobBarrier, name: str) -> WaitingProcess:
        began_s, look_s, state, reported = time.monotonic(), 0.0, None, ""
        give_up_s = began_s + self.job.wait_s
        while True:
            if (waiting := barrier.waiting_process()) is not None:
                return waiting
            now = time.monotonic()
            if now >= look_s:
                look_s = now + _LOOK_S
                state = job_named(name) or state
                if state is not None and state.never_starts:
                    raise StartError(f"{state}, and will never start as it is; it was cancelled")
                if state is not None and state.is_waiting and now > began_s + _QUIET_S and str(state) != reported:
                    reported = str(state)
                    self.say(reported)
                if self.has_ended() and barrier.waiting_process() is None:
                    reason = self.message() or state or "Slurm does not give a reason"
                    raise StartError(f"the job ended before the command began: {reason}")
            if now >= give_up_s:
                queue = str(state) if state is not None else "the queue knows no such job"
                raise StartError(f"the job has not started within {self.job.wait_s:g} s (--job_wait): {queue}; it was "
                                 "cancelled")  # fmt: skip
            time.sleep(_PAUSE_S)

    def _watched(self, waiting: WaitingProcess, barrier: JobBarrier, methods: Sequence[Method]) -> Outcome:
        job, reasons, ended_s = self.number(waiting), dict[str, str](), None
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
        wall_s = ended_s - released_s if ended_s is not None else None
        return Outcome(
            code, wall_s, waiting.pid if unseen is None else None, processes if unseen is None else (), job=job,
            reasons=reasons, unseen=unseen, has_other_parts=others,
            stopped_s=follower.stopped_s if follower is not None else None,
        )  # fmt: skip

    def _cancel(self, name: str) -> None:
        """Take the job out of the queue, or end it, and wait until Slurm has cleaned up after it."""
        deadline = time.monotonic() + _CANCEL_S
        while (state := job_named(name)) is not None and time.monotonic() < deadline:
            cancel(state.job)
            time.sleep(_PAUSE_S if state.state == "COMPLETING" else _LOOK_S)
        self.abandon()

    def abandon(self) -> None:
        """End what `begin` left on this machine."""


def _other_steps(job: str, processes: Sequence[ProcessEnd]) -> str | None:
    """Return what a job's further steps hide from the methods that watch the processes of its batch step.

    The accounting may come late, so a process named srun counts as a sign of them too.
    """
    if any(process.name == "srun" for process in processes):
        return "the command starts steps with srun, whose processes are not below its own"
    if "." in job:
        return None
    give_up_s = time.monotonic() + _STEPS_S
    while time.monotonic() < give_up_s:
        with contextlib.suppress(ValueError):
            steps = recorded_steps(job)
            if steps is None:
                return None
            others = [step.step for step in steps if step.name not in ("batch", "extern")]
            if others:
                return f"the job has further steps ({', '.join(others)}), whose processes are not below the command's"
            if any(step.name == "batch" and step.has_ended for step in steps):
                return None
        time.sleep(_LOOK_S / 2)
    return None


def _follower(waiting: WaitingProcess, trace: bool) -> tuple[Follower | None, str | None]:
    """Return what follows the process, or None and the reason why nothing can."""
    if waiting.unseen is not None:
        return None, waiting.unseen
    try:
        return Follower(waiting.pid, trace), None
    except OSError as error:  # it was killed at the barrier, or the kernel is older than Linux 5.3
        return None, f"the process of the job cannot be followed: {error}"


def without_job() -> dict[str, str]:
    """Return the environment of a job of its own, also where the trial itself runs in one."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SLURM_") or name == "SLURM_CONF"}
