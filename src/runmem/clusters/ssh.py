"""Workers on hosts over SSH, with the scheduler in this process and TLS with a certificate of the run."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from typing import ClassVar

from runmem.clusters.address import check_versions
from runmem.clusters.contract import Cluster
from runmem.clusters.hosts import Host, distribute_workers, read_hosts
from runmem.clusters.in_process_scheduler import (
    InProcessScheduler,
    local_address_to,
    split_address,
    worker_configuration,
)
from runmem.clusters.invitation import Invitation
from runmem.clusters.remote_host import RemoteHost, remote_command
from runmem.clusters.security import run_security
from runmem.errors import ClusterError, SettingError
from runmem.settings import Settings

__all__ = ["SshCluster"]

_HOSTS_READY_S = 120.0  # Python starts slowly if many nodes read the same file system
_HOSTS_POLL_S = 0.02


class SshCluster(Cluster):
    """Workers on each host, which end with their connection, however this process ends.

    The key of the run is sent over the connection of `ssh`: no file and no command line on the hosts contains it.
    """

    kind: ClassVar[str] = "ssh"
    starts_nodes: ClassVar[bool] = True
    chosen_by: ClassVar[tuple[str, ...]] = ("hosts",)

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.hosts is None:
            raise SettingError("--cluster ssh needs --hosts: names such as a,b or a file with one host per line.")
        self._hosts = distribute_workers(read_hosts(settings.hosts), settings.workers)
        self._ssh = _ssh_command(settings.ssh_command)
        self._script = _script_text(settings)
        names = ", ".join(host.name for host in self._hosts)
        self._security = run_security(settings, f"the scheduler of this run and its workers on {names}")
        self._scheduler = InProcessScheduler()
        self._remotes: list[RemoteHost] = []

    def _start(self) -> None:
        """Start the workers of all hosts and, while they import Dask, the scheduler; then invite them."""
        python = self.settings.remote_python or sys.executable
        command = remote_command(python, os.getcwd())
        own, port = split_address(self.settings.master_address)
        addresses = {host.name: own or self._address_for(host.name) for host in self._hosts}
        listen = next(iter(addresses.values())) if len(set(addresses.values())) == 1 and not own else "0.0.0.0"
        self._remotes = [RemoteHost(host.name, self._ssh, command, self._script) for host in self._hosts]
        for remote in self._remotes:
            remote.start()
        self._client = self._scheduler.start_for_hosts(listen, port, self._security)
        self.dashboard_token = self._scheduler.dashboard_token
        for host, remote in zip(self._hosts, self._remotes, strict=True):
            remote.invite(self._invitation(host, self._scheduler.address(addresses[host.name]), remote.joined))
        self._wait_until_ready(python)
        check_versions(self._client.get_versions(packages=["runmem"]))

    def _address_for(self, host: str) -> str:
        """Return this machine's address on the route to a host."""
        name = _real_name(self._ssh, host)
        try:
            return local_address_to(name)
        except OSError as error:
            raise ClusterError(
                f"--hosts: {host}: {name} cannot be found from here: {error.strerror or error}. If ssh goes through "
                "another host, set this machine's address for the hosts by --master_address."
            ) from error

    def _invitation(self, host: Host, address: str, joined: str) -> Invitation:
        return Invitation(
            scheduler=address,
            security=asdict(self._security) if self._security is not None else None,
            workers=host.workers,
            worker_memory_bytes=self.settings.worker_memory_bytes,
            configuration=worker_configuration(self.settings.python_memory_profile),
            shares_memory=self.shares_memory,
            joined=joined,
        )

    def _wait_until_ready(self, python: str) -> None:
        deadline_s = time.monotonic() + _HOSTS_READY_S
        while waiting := [remote for remote in self._remotes if not remote.ready.is_set()]:
            if failed := [remote for remote in waiting if remote.ended.is_set()]:
                raise ClusterError("\n".join(_failure(remote, python) for remote in failed))
            if time.monotonic() > deadline_s:
                names = ", ".join(remote.name for remote in waiting)
                raise ClusterError(f"--hosts: the workers of {names} did not join within {_HOSTS_READY_S:.0f} s.")
            time.sleep(_HOSTS_POLL_S)

    def close(self, abandon: bool = False) -> None:
        """End workers and scheduler."""
        for remote in self._remotes:
            remote.close()
        self._scheduler.close()
        for remote in self._remotes:
            remote.wait_closed()
        self._client, self._remotes = None, []


def _failure(remote: RemoteHost, python: str) -> str:
    """Return a message with the output of a host that did not start workers, and the remedy."""
    what = "no worker was started there"
    remedy = f"`ssh {remote.name} {python} -m runmem --version` must work without a password"
    if remote.exit_code == 255:
        what = "ssh could not connect"
        remedy = f"`ssh {remote.name} true` must work without a password or a question"
    elif remote.has_printed("--env_script failed"):
        remedy = "the script runs there from its first line on, and a failing command in it ends the run"
    elif remote.exit_code in (126, 127):
        remedy = "--remote_python sets the interpreter there, --env_script its environment"
    return f"--hosts: {remote.name}: {what}, {remote.failure()}\n  {remedy}."


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


def _real_name(ssh: list[str], host: str) -> str:
    """Return the name or address of a host in ssh's configuration."""
    plain = host.rpartition("@")[2]
    try:
        shown = subprocess.run([*ssh, "-G", "--", host], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # not OpenSSH
        return plain
    return next((line.split()[1] for line in shown.splitlines() if line.startswith("hostname ")), plain)
