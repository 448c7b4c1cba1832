"""The commands of docs/clusters.md for hosts over SSH, word for word."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clusters.md").read_text("utf-8")
SECTION = PAGE.partition("## Hosts over SSH")[2].partition("\n## ")[0]
APP = """
import os, socket, time
from collections import Counter
from runmem import task, wait_on

@task(returns=1)
def where(i):
    time.sleep(0.2)
    return socket.gethostname(), os.getpid()

if __name__ == "__main__":
    workers = set(wait_on([where(i) for i in range(80)]))
    print(sorted(Counter(host for host, _ in workers).items()))
"""


@pytest.fixture
def environment(hosts: Any, tmp_path: Path) -> dict[str, str]:
    """Return an environment in which ``ssh node1`` and ``ssh me@node2`` reach the hosts of the tests."""
    shutil.copytree(ROOT / "workers", tmp_path / "workers")
    (tmp_path / "app.py").write_text(APP)
    names = "".join(f"Host node{n}\n  HostName 10.77.0.1{n}\n" for n in (1, 2))
    config = Path(hosts.ssh_command.split()[-1])
    (tmp_path / "config").write_text(f"{names}Host *\n{config.read_text()}")
    # There is no account `me` here: this one takes its place.
    (tmp_path / "ssh").write_text(f'#!/bin/bash\nexec ssh -F {tmp_path}/config "${{@/#me@node2/node2}}"\n')
    (tmp_path / "ssh").chmod(0o755)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "RUNMEM_SSH_COMMAND": str(tmp_path / "ssh")}


def test_the_commands_of_the_page_run_on_both_hosts_with_the_workers_asked_for(
    environment: dict[str, str], tmp_path: Path
) -> None:
    commands, lines = re.findall(r"```(?:sh)?\n(.*?)```", SECTION, re.DOTALL)
    (tmp_path / "hosts").write_text(lines)
    names, file = commands.splitlines()
    assert "node1,me@node2 --workers 8" in names
    cores = len(os.sched_getaffinity(0))
    for command, workers in ((names, [("host1", 4), ("host2", 4)]), (file, [("host1", cores), ("host2", 4)])):
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"{sum(count for _, count in workers)} workers" in done.stderr
        assert [host for host, _ in workers] == re.findall(r"host\d", done.stdout)
    assert all((tmp_path / f"host{n}.dat").stat().st_size for n in (1, 2))
