"""Workers on the nodes of the program's own Slurm job, started by `srun`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import ClassVar

from runmem.clusters.contract import Cluster
from runmem.clusters.in_process_scheduler import (
    InProcessScheduler,
    local_address_to,
    split_address,
    worker_configuration,
)
from runmem.clusters.invitation import Invitation
from runmem.clusters.security import TlsSecurity, run_security
from runmem.errors import ClusterError, SettingError
from runmem.settings import Settings

__all__ = ["AllocationCluster"]

_FIRST_STEP_WORKER_S = 300.0  # Python starts slowly if a thousand nodes read the same file system
_STEP_END_S = 15


def _srun_command(environment: Mapping[str, str]) -> list[str]:
    """Return the command that starts a process on each node of the job, with all cores of the job.

    Raises
    ------
    ClusterError
        If there is no job or no `srun`.
    """
    nodes = environment.get("SLURM_JOB_NUM_NODES") or environment.get("SLURM_NNODES")
    if not environment.get("SLURM_JOB_ID") or not nodes:
        raise ClusterError(
            "--cluster allocation: this is not a Slurm job (SLURM_JOB_ID is not set). Use `runmem submit`, or get "
            "an allocation with salloc; outside a job, `--cluster slurm` starts workers as jobs."
        )
    if shutil.which("srun") is None:
        raise ClusterError("--cluster allocation: there is no `srun` on the PATH of this job.")
    command = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--overlap", "--no-kill"]
    command += ["--kill-on-bad-exit=0", "--job-name=runmem-workers", "--quiet"]
    # The default of a step is one core per task, and since version 22.05 srun ignores the value given to sbatch.
    if cores := environment.get("SLURM_CPUS_PER_TASK") or _cores_per_node(environment):
        command.append(f"--cpus-per-task={cores}")
    return [*command, sys.executable, "-P", "-m", "runmem.clusters.node_workers"]


def _cores_per_node(environment: Mapping[str, str]) -> int | None:
    """Return the smallest number of cores of a node of the job, which Slurm writes as ``16(x2),8``."""
    try:
        counts = [int(part.partition("(")[0]) for part in environment["SLURM_JOB_CPUS_PER_NODE"].split(",")]
    except (KeyError, ValueError):
        return None
    return min(counts)


def _job_network_address(environment: Mapping[str, str]) -> str:
    """Return this node's address on the network of the job.

    Raises
    ------
    ClusterError
        If Slurm does not know the nodes, or there is no route to them.
    """
    from runmem.slurm.client import host_names, node_address  # here, because every run imports this file

    nodes = environment.get("SLURM_JOB_NODELIST") or environment.get("SLURM_NODELIST", "")
    own = environment.get("SLURMD_NODENAME", "")
    try:
        other = next((name for name in host_names(nodes) if name != own), own)
        return local_address_to(address := node_address(other))
    except ClusterError as error:
        raise ClusterError(f"--cluster allocation: {error}") from error
    except OSError as error:
        raise ClusterError(
            f"--cluster allocation: node {other} has the address {address!r}, which cannot be used here: {error}. Set "
            "this node's address by --master_address."
        ) from error


class AllocationCluster(Cluster):
    """Scheduler in this process, on the job's network and with TLS; workers on every node of the job."""

    kind: ClassVar[str] = "allocation"
    starts_nodes: ClassVar[bool] = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._command = _srun_command(os.environ)
        nodes = int(os.environ.get("SLURM_JOB_NUM_NODES") or os.environ["SLURM_NNODES"])
        if settings.workers is not None and settings.workers < nodes:
            raise SettingError(
                f"--workers={settings.workers} is less than one worker for each of the job's {nodes} nodes."
            )
        self._srun: subprocess.Popen[str] | None = None
        self._scheduler = InProcessScheduler()

    def _start(self) -> None:
        """Start the processes on the nodes and, while they import Dask, the scheduler; then invite them."""
        self._srun = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, text=True, start_new_session=True, bufsize=1
        )
        host, port = split_address(self.settings.master_address)
        host = host or _job_network_address(os.environ)
        security = run_security(self.settings, f"the ports of this run on node {host} and the others of the job")
        self._client = self._scheduler.start_for_hosts(host, port, security)
        self.dashboard_token = self._scheduler.dashboard_token
        self._invite(self._srun, self._scheduler.address(host), security)
        deadline_s = time.monotonic() + _FIRST_STEP_WORKER_S
        self._wait_for_worker(lambda: self._check_step(deadline_s))

    def _invite(self, srun: subprocess.Popen[str], address: str, security: TlsSecurity | None) -> None:
        """Send the address and key of the run to the nodes, through the standard input of srun."""
        assert srun.stdin is not None
        invitation = Invitation(
            address,
            None if security is None else asdict(security),
            all_workers=self.settings.workers,
            worker_memory_bytes=self.settings.worker_memory_bytes,
            configuration=worker_configuration(self.settings.python_memory_profile),
            shares_memory=self.shares_memory,
        )
        with suppress(BrokenPipeError):  # srun has ended, which `_check_step` reports
            srun.stdin.write(invitation.to_line())
            srun.stdin.flush()

    def _check_step(self, deadline_s: float) -> None:
        assert self._srun is not None
        if (code := self._srun.poll()) is not None:
            raise ClusterError(
                f"--cluster allocation: srun ended with exit code {code} before a worker had joined; see its message "
                f"above. The command was: {' '.join(self._command)}"
            )
        if time.monotonic() > deadline_s:
            raise ClusterError(
                f"--cluster allocation: no worker joined the scheduler {self._scheduler.cluster.scheduler_address} in "
                f"{_FIRST_STEP_WORKER_S:.0f} s. Can the nodes reach each other at that address? "
                "--master_address sets another."
            )

    def close(self, abandon: bool = False) -> None:
        """End the workers and the scheduler. `abandon` does not wait for running tasks."""
        srun, self._srun = self._srun, None
        if abandon and srun is not None:
            _close_input(srun)
        self._scheduler.close()
        self._client = None
        if srun is not None:
            _close_input(srun)
            try:
                srun.wait(_STEP_END_S)
            except subprocess.TimeoutExpired:
                srun.kill()
                srun.wait()


def _close_input(srun: subprocess.Popen[str]) -> None:
    """Close the input of the processes on the nodes, which ends them."""
    if srun.stdin is not None:
        with suppress(OSError):
            srun.stdin.close()
