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

_RECORD_S = 10.0  # delay of the accounting record of an ended job
_OUTPUT = "runmem-{job}.{kind}"


class Slurm(BatchSystem):
    """Writes sbatch scripts and calls Slurm's commands."""

    name: ClassVar[str] = "slurm"

    def check(self) -> None:
        """Raise a ClusterError if `sbatch` or `scontrol` is missing."""
        if (missing := client.missing_command("sbatch", "scontrol")) is not None:
            raise ClusterError(
                f"{missing}. Submit from a login node of the cluster, or load its module; `runmem app.py` runs on this "
                "machine, and --hosts on others over SSH."
            )

    def script(self, job: JobRequest) -> str:
        """Return the job script: options, environment scripts, and the program in place of the shell."""
        lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in self._options(job)), ""]
        scripts = [script for script in (job.pre_env_script, job.env_script) if script is not None]
        if scripts:
            lines += ["set -e", *(f". {shlex.quote(str(script))} >&2" for script in scripts), "set +e", ""]
        lines += [
            "# exec: the program receives Slurm's signals, and its exit code is the job's.",
            f"exec {shlex.quote(job.python)} -P -m runmem run \\",
            *(f"    {option} \\" for option in self._cluster(job)),
            *(f"    {shlex.quote(option)} \\" for option in job.runmem_options),
            f"    -- {shlex.join(job.command)}",
        ]
        return "\n".join(lines) + "\n"

    def _options(self, job: JobRequest) -> Iterator[str]:
        if not re.fullmatch(r"[\w.+@:-]+", job.name):
            raise SettingError(f"--job_name: {job.name!r} has a character that is not allowed.")
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
        """Return the memory to request per node; None for the default of the queue."""
        if job.node_memory_bytes is not None:
            needed = (job.worker_memory_bytes or 0) * (job.workers_per_node or 1)
            if needed > job.node_memory_bytes:
                raise SettingError(
                    f"--node_memory: {format_bytes(job.node_memory_bytes)} is less than the "
                    f"{format_bytes(needed)} that {job.workers_per_node or 1} workers of --worker_memory may use."
                )
            return format_memory(job.node_memory_bytes)
        if job.workers_per_node is None:
            return "0"  # all memory of the node
        if job.worker_memory_bytes is not None:  # 1 GiB more for program and scheduler on the first node
            return format_memory(job.worker_memory_bytes * job.workers_per_node + GIB)
        return None

    def _cluster(self, job: JobRequest) -> Iterator[str]:
        """Yield runmem's options for the place of the workers; a single node needs no network."""
        if job.num_nodes > 1:
            yield "--cluster allocation"
        if job.workers_per_node is not None:
            yield f"--workers {job.num_nodes * job.workers_per_node}"
        elif job.num_nodes == 1:
            yield '--workers "$SLURM_CPUS_ON_NODE"'
        if job.worker_memory_bytes is not None:
            yield f"--worker_memory {job.worker_memory_bytes}"

    def submit(self, script: str) -> str:
        """Submit a script with `sbatch`."""
        return client.submit(script)

    def status(self, job_id: str) -> JobStatus:
        """Ask the controller, or the accounting if the controller has deleted the job (MinJobAge)."""
        deadline = time.monotonic() + _RECORD_S
        while (found := client.job_state(job_id)) is None:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"Slurm does not know job {job_id}: neither `scontrol show job {job_id}` nor `sacct -j {job_id}` "
                    "has it. See its output and the run directory."
                )
            time.sleep(0.5)
        place = found.expected_start, found.nodes, found.exit_code
        return JobStatus(found.state, found.has_ended, found.explanation, found.never_starts, *place)

    def cancel(self, job_id: str) -> None:
        """Cancel a job with SIGTERM, at which it writes its records, and SIGKILL after Slurm's KillWait."""
        client.cancel(job_id)

    def outputs(self, job_id: str, folder: Path) -> tuple[Path, Path]:
        """Return the paths that the script sets."""
        return folder / _OUTPUT.format(job=job_id, kind="out"), folder / _OUTPUT.format(job=job_id, kind="err")

    def hints(self, job_id: str) -> dict[str, str]:
        """Return the user's commands for a job."""
        return {"show": f"squeue -j {job_id}", "cancel": f"scancel {job_id}"}


def _dependency(given: str | None) -> str | None:
    """Convert a job's number alone, as in PyCOMPSs, to a dependency on any end of that job."""
    return f"afterany:{given}" if given is not None and given.isdecimal() else given
