"""Real processes to watch, and a spool folder whose sampler ends with the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runmem.node.launch import sampler_pid

_OBEY = """
import sys
names = {}
for line in sys.stdin:
    exec(line, names)
    print(names.pop("said", "done"), flush=True)
"""


class Obedient:
    """A Python process that runs one line of code after the other."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", _OBEY]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self.do("pass")

    def do(self, line: str) -> str:
        """Run `line` in the process; return the value that it gave to the variable `said`, or "done"."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer.endswith("\n"), f"the process ended at {line!r}"
        return answer[:-1]

    def kill(self, *, reap: bool = True) -> None:
        """Kill the process; without `reap` it stays a zombie."""
        self.process.send_signal(signal.SIGKILL)
        if reap:
            self.process.wait()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start() -> Iterator[Callable[[], Obedient]]:
    """Return a function that starts an `Obedient` process; end all of them with the test."""
    started: list[Obedient] = []

    def one() -> Obedient:
        started.append(Obedient())
        return started[-1]

    yield one
    for process in started:
        process.close()


def end_sampler(folder: Path, eventually: Callable) -> None:
    """End the sampler of `folder`, even one that does not read its ``stop`` file."""
    if (pid := sampler_pid(folder)) is not None:
        (folder / "stop").touch()
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: sampler_pid(folder) is None)


@pytest.fixture
def spool(tmp_path: Path, eventually: Callable) -> Iterator[Path]:
    folder = tmp_path / "spool"
    folder.mkdir()
    yield folder
    if folder.exists():
        end_sampler(folder, eventually)


@pytest.fixture
def small_disk(tmp_path: Path, eventually: Callable) -> Iterator[Path]:
    """Return a folder on a file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"a small file system cannot be mounted: {error}")
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted (needs root): {mounted.stderr.strip()}")
    yield folder
    end_sampler(folder, eventually)
    subprocess.run(["umount", str(folder)], check=True)
