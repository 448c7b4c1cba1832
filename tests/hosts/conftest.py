"""Two hosts for the tests: network namespaces with an SSH server each."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

_SCRIPT = Path(__file__).with_name("hosts.sh")
_ADDRESS = "10.77.0.1{}"


@dataclass(frozen=True)
class Hosts:
    """host1 and host2, at 10.77.0.11 and 10.77.0.12, reached over a network that can be cut.

    Attributes
    ----------
    ssh_command : str
        What `--ssh_command` takes to reach them as host1 and host2.
    servers : tuple of int
        Process ids of the SSH servers.
    """

    ssh_command: str
    servers: tuple[int, int]

    def kill(self, number: int) -> None:
        """Kill every process of a host but its SSH server at once, as a power failure does."""
        listed = subprocess.run(["ip", "netns", "pids", f"runmemtest{number}"], capture_output=True, text=True)
        for pid in map(int, listed.stdout.split()):
            if pid not in self.servers:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    @staticmethod
    def command(number: int, *words: str) -> list[str]:
        """Return the command that runs another on a host."""
        return [str(_SCRIPT), "run", str(number), *words]

    @staticmethod
    def act(what: str, number: int) -> None:
        """Disconnect a host from the network (``cut``) or connect it again (``mend``)."""
        subprocess.run([str(_SCRIPT), what, str(number)], check=True, capture_output=True)


@pytest.fixture(scope="session")
def network() -> Iterator[None]:
    """Make two hosts and a network; skip where that is not allowed."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nsenter"):
        pytest.skip("needs Linux, root and iproute2 to make network namespaces")
    subprocess.run([str(_SCRIPT), "down", "2"], capture_output=True)  # what a run before left, when it was killed
    made = subprocess.run([str(_SCRIPT), "up", "2"], capture_output=True, text=True)
    try:
        if made.returncode:
            pytest.skip(f"network namespaces cannot be made here: {made.stderr.strip()}")
        yield
    finally:
        subprocess.run([str(_SCRIPT), "down", "2"], capture_output=True)


@pytest.fixture(scope="session")
def hosts(network: None, tmp_path_factory: pytest.TempPathFactory, eventually: Callable[..., Any]) -> Iterator[Hosts]:
    """Start an SSH server on each host, with a key made for it."""
    if not shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin") or not shutil.which("ssh"):
        pytest.skip("needs ssh and sshd (Debian's openssh-server)")
    if subprocess.run([sys.executable, "-P", "-c", "import runmem"], cwd="/", env={}).returncode:
        pytest.skip("runmem is not installed in this environment: a host could not import it")
    folder = tmp_path_factory.mktemp("hosts")
    for key in ("key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    (folder / "sshd_config").write_text(
        f"Port 22\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n"
        f"AuthorizedKeysFile {folder}/key.pub\nPermitRootLogin yes\n"
    )
    (folder / "config").write_text(
        "".join(f"Host host{n}\n  HostName {_ADDRESS.format(n)}\n" for n in (1, 2))
        + f"Host *\n  User root\n  IdentityFile {folder}/key\n  IdentitiesOnly yes\n  UserKnownHostsFile /dev/null\n"
        "  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking no\n  LogLevel ERROR\n"
    )
    servers = []
    try:
        for n in (1, 2):
            command = Hosts.command(n, shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-f", f"{folder}/sshd_config")
            servers.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            eventually(partial(_answers, _ADDRESS.format(n), 22))
        yield Hosts(f"ssh -F {folder}/config", (servers[0].pid, servers[1].pid))
    finally:
        for server in servers:
            server.terminate()
            server.wait()


@pytest.fixture(autouse=True)
def _mended(network: None) -> Iterator[None]:
    yield
    for n in (1, 2):
        Hosts.act("mend", n)


def _answers(address: str, port: int) -> bool:
    with suppress(OSError):
        socket.create_connection((address, port), timeout=1).close()
        return True
    return False
