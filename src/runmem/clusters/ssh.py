"""Workers on hosts that `ssh` reaches: the scheduler in this process, TLS with a certificate of the run."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any, ClassVar

from runmem.clusters.address import check_versions
from runmem.clusters.contract import Cluster
from runmem.clusters.hosts import Host, distribute_workers, read_hosts
from runmem.clusters.in_process_scheduler import InProcessScheduler, local_address_to, worker_configuration
from runmem.clusters.invitation import Invitation
from runmem.clusters.remote_host import RemoteHost, remote_command
from runmem.clusters.security import run_security
from runmem.errors import ClusterError, SettingError
from runmem.settings import Settings

__all__ = ["SshCluster"]

_READY_S = 120.0  # Python starts slowly from a file system that many nodes read at once
_POLL_S = 0.02


class SshCluster(Cluster):
    """Starts workers on each host; they end with the connection, however this process ends.

    The key of the run travels over the connection of `ssh` itself: no file and no command line on the hosts has it.
    """

    kind: ClassVar[str] = "ssh"
    lazy: ClassVar[bool] = False
    chosen_by: ClassVar[tuple[str, ...]] = ("hosts",)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.hosts is None:
            raise SettingError("--cluster ssh needs --hosts: names such as a,b or a file with one host a line.")
        self._hosts = distribute_workers(read_hosts(settings.hosts), settings.workers)
        self._ssh = _ssh_command(settings.ssh_command)
        self._script = _script_text(settings)
        names = ", ".join(host.name for host in self._hosts)
        self._security = run_security(settings, f"the scheduler of this run and its workers on {names}")
        self._scheduler: InProcessScheduler | None = None
        self._remotes: list[RemoteHost] = []

    def connect(self) -> Any:
        """Start the workers of all hosts and, while they import Dask, the scheduler; then tell them whom to join."""
        if self._scheduler is not None:
            return self._scheduler.client
        python = self.settings.remote_python or sys.executable
        command = remote_command(python, os.getcwd())
        own, port = _split_address(self.settings.master_address)
        own_by_host = {host.name: own or self._own_address(host.name) for host in self._hosts}
        listen = next(iter(own_by_host.values())) if len(set(own_by_host.values())) == 1 and not own else "0.0.0.0"
        try:
            self._remotes = [RemoteHost(host.name, self._ssh, command, self._script) for host in self._hosts]
            for remote in self._remotes:
                remote.start()
            self._scheduler = InProcessScheduler(listen, port, self._security)
            client = self._scheduler.start()
            self.dashboard_token = self._scheduler.dashboard_token
            for host, remote in zip(self._hosts, self._remotes, strict=True):
                address = self._scheduler.address(own_by_host[host.name])
                remote.invite(self._invitation(host, address, remote.joined))
            self._wait_until_ready(python)
            check_versions(client.get_versions(packages=["runmem"]))
        except BaseException:
            self.close(abandon=True)
            raise
        return client

    def _own_address(self, host: str) -> str:
        name = _real_name(self._ssh, host)
        try:
            return local_address_to(name)
        except OSError as error:
            raise ClusterError(
                f"--hosts: {host}: {name} cannot be found from here: {error.strerror or error}. If ssh goes through "
                "another host, --master_address says where the hosts reach this machine."
            ) from error

    def _invitation(self, host: Host, address: str, joined: str) -> Invitation:
        return Invitation(
            scheduler=address,
            security=asdict(self._security) if self._security is not None else None,
            workers=host.workers,
            worker_memory_bytes=self.settings.worker_memory_bytes,
            configuration=worker_configuration(self.settings.python_memory_profile),
            joined=joined,
        )

    def _wait_until_ready(self, python: str) -> None:
        deadline = time.monotonic() + _READY_S
        while waiting := [remote for remote in self._remotes if not remote.ready.is_set()]:
            if failed := [remote for remote in waiting if remote.ended.is_set()]:
                raise ClusterError("\n".join(self._why(remote, python) for remote in failed))
            if time.monotonic() > deadline:
                names = ", ".join(remote.name for remote in waiting)
                raise ClusterError(f"--hosts: the workers of {names} did not join within {_READY_S:.0f} s.")
            time.sleep(_POLL_S)

    @staticmethod
    def _why(remote: RemoteHost, python: str) -> str:
        what = "no worker was started there"
        remedy = f"`ssh {remote.name} {python} -m runmem --version` must work without a password"
        if remote.exit_code == 255:
            what = "ssh could not connect"
            remedy = f"`ssh {remote.name} true` must work without a password or a question"
        elif remote.said("--env_script failed"):
            remedy = "the script is read there from the first line on, and a command in it that fails stops the run"
        elif remote.exit_code in (126, 127):
            remedy = "--remote_python names the interpreter there, --env_script what it needs first"
        return f"--hosts: {remote.name}: {what}, {remote.failure()}\n  {remedy}."

    def close(self, abandon: bool = False) -> None:
        """End workers and scheduler."""
        for remote in self._remotes:
            remote.close()
        if self._scheduler is not None:
            self._scheduler.close()
        for remote in self._remotes:
            remote.wait_closed()
        self._scheduler, self._remotes = None, []


def _ssh_command(value: str) -> list[str]:
    try:
        command = shlex.split(value)
    except ValueError as error:
        raise SettingError(f"--ssh_command: {value!r} cannot be used: {error}.") from error
    if not command or shutil.which(command[0]) is None:
        raise SettingError(
            f"--ssh_command: there is no {command[0] if command else 'command'!r} here; --hosts needs ssh."
        )
    return command


def _script_text(settings: Settings) -> bytes:
    script = settings.env_script
    if script is None:
        return b""
    try:
        return script.read_bytes()
    except OSError as error:
        raise SettingError(f"--env_script: {str(script)!r} cannot be read: {error.strerror}.") from error


def _split_address(value: str | None) -> tuple[str | None, int]:
    """Return host and port (0: any) of --master_address."""
    if value is None:
        return None, 0
    host, colon, port = value.rpartition(":")
    if not colon or value.endswith("]"):
        return value.strip("[]"), 0
    return host.strip("[]"), int(port)


def _real_name(ssh: list[str], host: str) -> str:
    """Return the name or address behind a host of ssh's configuration."""
    plain = host.rpartition("@")[2]
    try:
        shown = subprocess.run([*ssh, "-G", "--", host], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # not OpenSSH
        return plain
    return next((line.split()[1] for line in shown.splitlines() if line.startswith("hostname ")), plain)
