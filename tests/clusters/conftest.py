"""An SSH server on loopback for the tests of hosts."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_CONFIG = """
Host near far
  HostName 127.0.0.1
  IdentityFile {folder}/key
Host dead
  HostName 127.0.0.1
  Port {dead}
Host locked
  HostName 127.0.0.1
  IdentityFile {folder}/other_key
Host *
  Port {port}
  User {user}
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking accept-new
  LogLevel ERROR
"""


@dataclass(frozen=True)
class SshServer:
    """An sshd of this test session.

    Attributes
    ----------
    command : str
        What `--ssh_command` takes to reach it: hosts near and far are this machine, at dead nobody listens, locked
        refuses the key.
    pid : int
    """

    command: str
    pid: int


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory, eventually: Callable[..., Any]) -> Iterator[SshServer]:
    """Start an sshd with a key made for it, on a port of its own; skip where there is none."""
    sshd = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if sshd is None or shutil.which("ssh") is None:
        pytest.skip("needs ssh and sshd (Debian's openssh-server)")
    folder = tmp_path_factory.mktemp("ssh")
    for key in ("key", "other_key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    port, log = free_port(), folder / "sshd.log"
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    )
    (folder / "config").write_text(_CONFIG.format(port=port, dead=free_port(), user=getpass.getuser(), folder=folder))
    process = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log.open("w"))
    try:

        def answers_or_ended() -> bool:
            with suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                return True
            return process.poll() is not None

        eventually(answers_or_ended)
        if process.poll() is not None:
            pytest.skip(f"sshd does not start here: {log.read_text()}")
        yield SshServer(f"ssh -F {folder}/config", process.pid)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def python() -> str:
    """Return the interpreter for the hosts; skip if runmem is not installed in it."""
    done = subprocess.run([sys.executable, "-c", "import runmem"], cwd="/", env={"PATH": os.environ["PATH"]})
    if done.returncode:
        pytest.skip("runmem is not installed in this environment: a host could not import it")
    return sys.executable
