"""Random signals to random processes of runs over two hosts; of these the machine has one pair: tests/conftest.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import TARGETS
from judge import wrong_trials

HOSTS = Path(__file__).parents[1] / "hosts" / "hosts.sh"
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc"),
    pytest.mark.timeout(0),
]


@pytest.fixture
def over_two_hosts(tmp_path: Path) -> Iterator[list[str]]:
    """The options of a run over two hosts: network namespaces, entered in place of ssh."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nsenter"):
        pytest.skip("needs root and iproute2 to make network namespaces")
    subprocess.run([str(HOSTS), "down", "2"], capture_output=True)
    made = subprocess.run([str(HOSTS), "up", "2"], capture_output=True, text=True)
    try:
        if made.returncode:
            pytest.skip(f"network namespaces cannot be made here: {made.stderr.strip()}")
        ssh = tmp_path / "ssh"  # ... OPTIONS -- host1 COMMAND: as sshd does, it gives the command to a shell
        ssh.write_text(
            '#!/bin/bash\nwhile [ "$1" != -- ]; do [ "$1" = -G ] && exit 1; shift; done\n'
            f'exec {HOSTS} run "${{2#host}}" bash -c "$3"\n'
        )
        ssh.chmod(0o755)
        yield ["--hosts=host1,host2", f"--ssh_command={ssh}", "--master_address=10.77.0.1"]
    finally:
        subprocess.run([str(HOSTS), "down", "2"], capture_output=True)


def test_kills_over_two_hosts(
    tmp_path: Path, over_two_hosts: list[str], each_seed: Callable[..., Iterator[int]]
) -> None:
    assert wrong_trials(each_seed(3000, 1, 0.3), tmp_path, over_two_hosts, (*TARGETS, "host")) == []
