"""Jobs of Slurm."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from runmem.errors import ClusterError, SettingError
from runmem.slurm import client
from runmem.slurm.flags import format_memory, format_time, parse_flag
from runmem.submission.contract import BatchSystem, JobRequest, JobStatus
from runmem.units import GIB, format_bytes

__all__ = ["Slurm"]

_RECORD_S = 10.0  # that the accounting may take to have the record of a job that is over
_OUTPUT = "runmem-{job}.{kind}"


class Slurm(BatchSystem):
    """Writes sbatch scripts, and hands on what Slurm's commands say."""

    name: ClassVar[str] = "slurm"

    def check(self) -> None:
        """Raise ClusterError if `sbatch` or `scontrol` is not there."""
        if (missing := client.missing_command("sbatch", "scontrol")) is not None:
            raise ClusterError(
                f"{missing}. Submit from a login node of the cluster, or load its module; `runmem app.py` runs on this "
                "machine, and --hosts on others over SSH."
            )

    def script(self, job: JobRequest) -> str:
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

    def _options(self, job: JobRequest) -> Iterator[str]:
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
            yield f"--time={format_time(job.exec_time_s)}"
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
        yield from (parse_flag(flag) for flag in job.extra_submit_flags)

    def _node_memory(self, job: JobRequest) -> str | None:
        """Return the memory to ask of each node; None leaves it to the queue."""
        if job.node_memory_bytes is not None:
            needed = (job.worker_memory_bytes or 0) * (job.workers_per_node or 1)
            if needed > job.node_memory_bytes:
                raise SettingError(
                    f"--node_memory: {format_bytes(job.node_memory_bytes)} is less than the "
                    f"{format_bytes(needed)} that {job.workers_per_node or 1} workers of --worker_memory may use."
                )
            return format_memory(job.node_memory_bytes)
        if job.workers_per_node is None:
            return "0"  # all that the node has
        if job.worker_memory_bytes is not None:  # and for the program, with its scheduler, on the first node
            return format_memory(job.worker_memory_bytes * job.workers_per_node + GIB)
        return None

    def _cluster(self, job: JobRequest) -> Iterator[str]:
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
        return client.submit(script)

    def status(self, job_id: str) -> JobStatus:
        """Ask the controller, and the accounting once the controller has forgotten the job (MinJobAge)."""
        deadline = time.monotonic() + _RECORD_S
        while (found := client.job_state(job_id)) is None:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"Slurm does not know job {job_id}: `scontrol show job {job_id}` has forgotten it and `sacct -j "
                    f"{job_id}` has no record of it. Its output and the run directory tell how it ended."
                )
            time.sleep(0.5)
        return JobStatus(
            found.state, found.is_waiting, found.has_ended, found.explanation, found.never_starts,
            found.expected_start, found.nodes, found.exit_code,
        )  # fmt: skip

    def cancel(self, job_id: str) -> None:
        """Have Slurm end the job: SIGTERM, so that it writes its records, and SIGKILL after Slurm's KillWait."""
        client.cancel(job_id)

    def outputs(self, job_id: str, folder: Path) -> tuple[Path, Path]:
        """Return the files that the script names."""
        return folder / _OUTPUT.format(job=job_id, kind="out"), folder / _OUTPUT.format(job=job_id, kind="err")

    def hints(self, job_id: str) -> dict[str, str]:
        """Return the commands for a person."""
        return {"look": f"squeue -j {job_id}", "cancel": f"scancel {job_id}"}


def _dependency(given: str | None) -> str | None:
    """Return a dependency: of a job's number alone, as PyCOMPSs has it, that this job has ended in any way."""
    return f"afterany:{given}" if given is not None and given.isdecimal() else given
