"""The nodes of the Slurm job that the program runs in: `srun` starts the workers of each node."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, ClassVar
from urllib.parse import urlsplit

from runmem.clusters.contract import Cluster
from runmem.clusters.in_process_scheduler import InProcessScheduler, local_address_to, worker_configuration
from runmem.clusters.invitation import Invitation
from runmem.clusters.security import TlsSecurity, run_security
from runmem.errors import ClusterError, SettingError
from runmem.settings import Settings

__all__ = ["AllocationCluster", "srun_command", "job_network_address"]

_FIRST_WORKER_S = 300.0  # Python starts slowly from a file system that a thousand nodes read at once
_POLL_S = 0.02


def srun_command(environment: Mapping[str, str]) -> list[str]:
    """Return the command that runs a process on each node of the job, with all cores of the job there.

    Raises
    ------
    ClusterError
        If there is no job, or no `srun`.
    """
    nodes = environment.get("SLURM_JOB_NUM_NODES") or environment.get("SLURM_NNODES")
    if not environment.get("SLURM_JOB_ID") or not nodes:
        raise ClusterError(
            "--cluster allocation: this is not inside a Slurm job (SLURM_JOB_ID is not set). Let `runmem submit` start "
            "it, or get an allocation with salloc; from outside, `--cluster slurm` starts workers as jobs."
        )
    if shutil.which("srun") is None:
        raise ClusterError("--cluster allocation: there is no `srun` on the PATH of this job.")
    command = [
        "srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--overlap", "--no-kill",
        "--kill-on-bad-exit=0", "--job-name=runmem-workers", "--quiet",
    ]  # fmt: skip
    # A step has one core a task by default, and from version 22.05 on srun no longer reads what sbatch was asked.
    if cores := environment.get("SLURM_CPUS_PER_TASK") or _cores_a_node(environment):
        command.append(f"--cpus-per-task={cores}")
    return [*command, sys.executable, "-P", "-m", "runmem.clusters.node_workers"]


def _cores_a_node(environment: Mapping[str, str]) -> int | None:
    """Return the least number of cores of a node of the job, from what Slurm writes as ``16(x2),8``."""
    try:
        counts = [int(part.partition("(")[0]) for part in environment["SLURM_JOB_CPUS_PER_NODE"].split(",")]
    except (KeyError, ValueError):
        return None
    return min(counts)


def _split_address(given: str | None) -> tuple[str, int] | None:
    """Return host and port of --master_address; port 0, any free one, if it names none."""
    if given is None:
        return None
    parts = urlsplit(f"//{given}")
    return str(parts.hostname), parts.port or 0


def job_network_address(environment: Mapping[str, str]) -> str:
    """Return this node's address on the network that leads to the other nodes of the job.

    Raises
    ------
    ClusterError
        If Slurm does not know the nodes, or their addresses lead nowhere.
    """
    from runmem.slurm.client import host_names, node_address  # here, since every run imports this file

    nodes = environment.get("SLURM_JOB_NODELIST") or environment.get("SLURM_NODELIST", "")
    own = environment.get("SLURMD_NODENAME", "")
    try:
        other = next((name for name in host_names(nodes) if name != own), own)
        return local_address_to(address := node_address(other))
    except ClusterError as error:
        raise ClusterError(f"--cluster allocation: {error}") from error
    except OSError as error:
        raise ClusterError(
            f"--cluster allocation: node {other} has the address {address!r}, which cannot be used here: {error}. Name "
            "this node's address yourself: --master_address."
        ) from error


class AllocationCluster(Cluster):
    """Scheduler in this process, on the job's network and with TLS; workers on every node of the job."""

    kind: ClassVar[str] = "allocation"
    lazy: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._command = srun_command(os.environ)
        nodes = int(os.environ.get("SLURM_JOB_NUM_NODES") or os.environ["SLURM_NNODES"])
        if settings.workers is not None and settings.workers < nodes:
            raise SettingError(
                f"--workers={settings.workers} is fewer than the {nodes} nodes of the job: each has one."
            )
        self._srun: subprocess.Popen[str] | None = None
        self._scheduler: InProcessScheduler | None = None
        self._client: Any = None

    def connect(self) -> Any:
        """Start the workers' processes and, while they import Dask, the scheduler; then tell them whom to join."""
        if self._client is not None:
            return self._client
        try:
            self._srun = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, text=True, start_new_session=True, bufsize=1
            )
            host, port = _split_address(self.settings.master_address) or (job_network_address(os.environ), 0)
            security = run_security(self.settings, f"the ports of this run on node {host} and the others of the job")
            self._scheduler = InProcessScheduler(host, port, security)
            self._client = self._scheduler.start()
            self.dashboard_token = self._scheduler.dashboard_token
            self._invite(self._scheduler.address(host), security)
            self._wait_for_a_worker(self._client)
        except BaseException:
            self.close(abandon=True)
            raise
        return self._client

    def _invite(self, address: str, security: TlsSecurity | None) -> None:
        """Tell the nodes whom to join, on the standard input that srun gives to all of them."""
        assert self._srun is not None
        assert self._srun.stdin is not None
        invitation = Invitation(
            address,
            None if security is None else asdict(security),
            all_workers=self.settings.workers,
            worker_memory_bytes=self.settings.worker_memory_bytes,
            configuration=worker_configuration(self.settings.python_memory_profile),
        )
        with suppress(BrokenPipeError):  # it has ended, and the wait for a worker says so
            self._srun.stdin.write(invitation.to_line())
            self._srun.stdin.flush()

    def _wait_for_a_worker(self, client: Any) -> None:
        assert self._srun is not None
        deadline = time.monotonic() + _FIRST_WORKER_S
        while not client.scheduler_info(n_workers=-1)["workers"]:
            if (code := self._srun.poll()) is not None:
                raise ClusterError(
                    f"--cluster allocation: srun ended with exit code {code} before a worker had joined; its message "
                    f"stands above. The command was: {' '.join(self._command)}"
                )
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"--cluster allocation: no worker joined the scheduler {client.scheduler.address} in "
                    f"{_FIRST_WORKER_S:.0f} s. Can the nodes reach each other at that address? "
                    "--master_address names another."
                )
            time.sleep(_POLL_S)

    def close(self, abandon: bool = False) -> None:
        """End the workers and the scheduler. `abandon` does not wait for tasks that still run."""
        srun, self._srun = self._srun, None
        if abandon and srun is not None:
            _end_of_input(srun)
        if self._scheduler is not None:
            self._scheduler.close()
        self._client = self._scheduler = None
        if srun is not None:
            _end_of_input(srun)
            try:
                srun.wait(15)
            except subprocess.TimeoutExpired:
                srun.kill()
                srun.wait()


def _end_of_input(srun: subprocess.Popen[str]) -> None:
    """Let the processes on the nodes see the end of their input, which ends them."""
    if srun.stdin is not None:
        with suppress(OSError):
            srun.stdin.close()
