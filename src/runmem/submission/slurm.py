"""Jobs of Slurm."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from runmem.clusters.slurm_flags import mebibytes, slurm_flag
from runmem.clusters.slurm_words import HOPELESS, explained, out_of_reach
from runmem.errors import ClusterError, SettingError
from runmem.submission.contract import BatchSystem, Job, JobStatus
from runmem.units import GIB, format_bytes

__all__ = ["Slurm", "time_limit"]

_ANSWER_S = 60
_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_GOING = ("RUNNING", "COMPLETING", "STAGE_OUT", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING")
_SIGNALLED = {"CANCELLED": 128 + 15, "TIMEOUT": 128 + 15, "DEADLINE": 128 + 15, "PREEMPTED": 128 + 15,
              "OUT_OF_MEMORY": 128 + 9, "NODE_FAIL": 1, "BOOT_FAIL": 1, "FAILED": 1}  # fmt: skip
_OUTPUT = "runmem-{job}.{kind}"


def time_limit(seconds: int) -> str:
    """Return a time as Slurm writes it: ``[days-]hours:minutes:seconds``."""
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


class Slurm(BatchSystem):
    """Writes sbatch scripts; asks `scontrol`, and `sacct` for what the controller has forgotten."""

    name: ClassVar[str] = "slurm"

    def check(self) -> None:
        """Raise ClusterError if `sbatch` or `scontrol` is not there."""
        for program in ("sbatch", "scontrol"):
            if shutil.which(program) is None:
                raise ClusterError(
                    f"there is no Slurm here: `{program}` is not on the PATH. Submit from a login node of the cluster, "
                    "or load its module; `runmem app.py` runs on this machine, and --hosts on others over SSH."
                )

    def script(self, job: Job) -> str:
        """Return the job script: its options, the environment, and the program in place of the shell."""
        lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in self._options(job)), ""]
        scripts = [script for script in (job.pre_env_script, job.env_script) if script is not None]
        if scripts:
            lines += ["set -e", *(f". {shlex.quote(str(script))} >&2" for script in scripts), "set +e", ""]
        lines += [
            "# In place of the shell: the signals of Slurm reach the program, and its exit code is the job's.",
            f"exec {shlex.quote(job.python)} -P -m runmem run \\",
            *(f"    {option} \\" for option in self._cluster(job)),
            *(f"    {shlex.quote(option)} \\" for option in job.runmem_options),
            f"    -- {shlex.join(job.command)}",
        ]
        return "\n".join(lines) + "\n"

    def _options(self, job: Job) -> Iterator[str]:
        if not re.fullmatch(r"[\w.+@:-]+", job.name):
            raise SettingError(f"--job_name: {job.name!r} has a character that a job's name may not have.")
        yield f"--job-name={job.name}"
        yield f"--nodes={job.num_nodes}"
        yield "--ntasks-per-node=1"
        if job.workers_per_node is None:
            yield "--exclusive"
        else:
            yield f"--cpus-per-task={job.workers_per_node}"
        if memory := self._node_memory(job):
            yield f"--mem={memory}"
        if job.exec_time_s is not None:
            yield f"--time={time_limit(job.exec_time_s)}"
        named = {
            "--partition": job.queue,
            "--qos": job.qos,
            "--reservation": job.reservation,
            "--account": job.project_name,
            "--constraint": job.constraints,
            "--dependency": _dependency(job.job_dependency),
        }
        yield from (f"{option}={shlex.quote(value)}" for option, value in named.items() if value is not None)
        yield f"--chdir={shlex.quote(str(job.folder))}"
        yield f"--output={_OUTPUT.format(job='%j', kind='out')}"
        yield f"--error={_OUTPUT.format(job='%j', kind='err')}"
        yield from (slurm_flag(flag) for flag in job.extra_submit_flags)

    def _node_memory(self, job: Job) -> str | None:
        """Return the memory to ask of each node; None leaves it to the queue."""
        if job.node_memory_bytes is not None:
            needed = (job.worker_memory_bytes or 0) * (job.workers_per_node or 1)
            if needed > job.node_memory_bytes:
                raise SettingError(
                    f"--node_memory: {format_bytes(job.node_memory_bytes)} is less than the "
                    f"{format_bytes(needed)} that {job.workers_per_node or 1} workers of --worker_memory may use."
                )
            return mebibytes(job.node_memory_bytes)
        if job.workers_per_node is None:
            return "0"  # all that the node has
        if job.worker_memory_bytes is not None:  # and for the program, with its scheduler, on the first node
            return mebibytes(job.worker_memory_bytes * job.workers_per_node + GIB)
        return None

    def _cluster(self, job: Job) -> Iterator[str]:
        """Yield the options that say where the workers run: one node needs no network."""
        if job.num_nodes > 1:
            yield "--cluster allocation"
        if job.workers_per_node is not None:
            yield f"--workers {job.num_nodes * job.workers_per_node}"
        elif job.num_nodes == 1:
            yield '--workers "$SLURM_CPUS_ON_NODE"'
        if job.worker_memory_bytes is not None:
            yield f"--worker_memory {job.worker_memory_bytes}"

    def submit(self, script: str) -> str:
        """Give a script to `sbatch`."""
        done = subprocess.run(
            ["sbatch", "--parsable"], input=script, capture_output=True, text=True, check=False, timeout=_ANSWER_S
        )
        if done.returncode:
            if (plain := out_of_reach(done.stderr)) is not None:
                raise ClusterError(f"the job cannot be submitted: {plain}.")
            raise ClusterError(
                f"sbatch refuses the job (exit code {done.returncode}): {_said(done.stderr)}{self._remedy(done.stderr)}"
            )
        return done.stdout.strip().partition(";")[0]  # the name of the cluster may follow

    def _remedy(self, said: str) -> str:
        if "partition" in said and "nvalid" in said:
            found = _run("sinfo", "-h", "-o", "%R")
            names = ", ".join(sorted(set(found.split()))) if found else ""
            return f"\n--queue: the queues (partitions) here are {names}." if names else ""
        if "constraint" in said or "feature" in said.lower():
            found = _run("sinfo", "-h", "-o", "%f")
            names = ", ".join(sorted(set(re.split(r"[,\s]+", found or "")) - {""}))
            return f"\n--constraints: the features of the nodes here are {names}." if names else ""
        if "unrecognized option" in said:
            return "\n--extra_submit_flag takes options of sbatch: `sbatch --help` lists them."
        return ""

    def status(self, job_id: str) -> JobStatus:
        """Ask the controller, and the accounting once the controller has forgotten the job (MinJobAge)."""
        shown = _run("scontrol", "-o", "show", "job", job_id)
        if shown is None:
            return self._from_accounting(job_id)
        fields: dict[str, str] = dict(re.findall(r"(?:^|\s)(\w+)=(\S*)", shown))
        state = fields.get("JobState", "UNKNOWN")
        reason = fields.get("Reason", "None")
        start = fields.get("StartTime", "Unknown")
        return JobStatus(
            state=state,
            waits=state in _WAITING,
            ended=state not in _WAITING and state not in _GOING,
            reason=explained(reason) if state in _WAITING else None,
            hopeless=state == "PENDING" and reason in HOPELESS,
            expected_start=start if state in _WAITING and start not in ("Unknown", "N/A") else None,
            nodes=None if fields.get("NodeList", "(null)") == "(null)" else fields["NodeList"],
            exit_code=_exit_code(state, fields.get("ExitCode", "")),
        )

    def _from_accounting(self, job_id: str, patience_s: float = 10.0) -> JobStatus:
        """Ask `sacct`, whose records may come some seconds after the job's end."""
        deadline = time.monotonic() + patience_s
        while True:
            found = _run("sacct", "-n", "-X", "-P", "-j", job_id, "-o", "State,ExitCode,NodeList")
            if found and found.strip():
                state, code, nodes = found.strip().splitlines()[-1].split("|")
                state = state.split()[0]  # "CANCELLED by 0"
                ended = state not in _WAITING and state not in _GOING
                return JobStatus(state, state in _WAITING, ended, nodes=nodes, exit_code=_exit_code(state, code))
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"Slurm does not know job {job_id}: `scontrol show job {job_id}` has forgotten it and `sacct -j "
                    f"{job_id}` has no record of it. Its output and the run directory tell how it ended."
                )
            time.sleep(0.5)

    def cancel(self, job_id: str) -> None:
        """Have `scancel` end the job: SIGTERM, so that it writes its records, and SIGKILL after Slurm's KillWait."""
        _run("scancel", job_id)

    def outputs(self, job_id: str, folder: Path) -> tuple[Path, Path]:
        """Return the files that the script names."""
        return folder / _OUTPUT.format(job=job_id, kind="out"), folder / _OUTPUT.format(job=job_id, kind="err")

    def hints(self, job_id: str) -> dict[str, str]:
        """Return the commands for a person."""
        return {"look": f"squeue -j {job_id}", "cancel": f"scancel {job_id}"}


def _dependency(given: str | None) -> str | None:
    """Return a dependency: of a job's number alone, as PyCOMPSs has it, that this job has ended in any way."""
    return f"afterany:{given}" if given is not None and given.isdecimal() else given


def _exit_code(state: str, field: str) -> int | None:
    """Return the exit code of a job that ended; Slurm writes it as ``<code>:<signal>``."""
    if state in _WAITING or state in _GOING:
        return None
    code, _, number = field.partition(":")
    if number.isdecimal() and int(number):
        return 128 + int(number)
    if code.isdecimal() and (int(code) or state == "COMPLETED"):
        return int(code)
    return _SIGNALLED.get(state)


def _said(text: str) -> str:
    return text.strip() or "it says nothing"


def _run(*command: str) -> str | None:
    """Return what a command of Slurm's prints, None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_ANSWER_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
