"""The command line in a process of its own, on programs that the tests write."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "src"
MARK = "RUNMEM_TEST_MARK"
UNSAID = {  # what a record leaves out where it has nothing to say of it
    "exception": None, "last_bytes": None, "reason": None, "data_id": None, "increment_unclear": None, "shared": False,
    "stack": None, "extra": None, "attempt": 1, "parent_id": None, "recorded_by": None,
}  # fmt: skip


def make_environment(**more: str) -> dict[str, str]:
    """Return the environment of a child process, without settings of the tests and with runmem importable."""
    outside = ("RUNMEM_", "COMPSS_", "PYTHON", "DASK_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    return {**kept, "PYTHONPATH": str(SOURCE), MARK: uuid.uuid4().hex, **more}


def living_with(mark: str) -> dict[int, str]:
    """Return the command lines, by process id, of the living processes that inherited the mark of a run."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it has ended meanwhile, or is another user's
    return found


@dataclass
class Ran:
    """A command that has ended, and the runs in its folder."""

    folder: Path
    code: int
    out: str
    err: str
    mark: str = field(repr=False, default="")

    @property
    def runs(self) -> list[Path]:
        return sorted((self.folder / "runmem_runs").glob("*"))

    @property
    def provenance(self) -> dict[str, Any]:
        return json.loads((self.runs[-1] / "run.json").read_text())

    @property
    def records(self) -> list[dict[str, Any]]:
        lines = (self.runs[-1] / "tasks.jsonl").read_text().splitlines()
        return [{**UNSAID, **json.loads(line)} for line in lines]


def write_file(folder: Path, name: str, source: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))
    return path


def run_command(folder: Path, *arguments: str, env: dict[str, str] | None = None, timeout_s: float = 90) -> Ran:
    """Run ``python -m runmem ARGUMENTS`` in `folder` to its end."""
    env = make_environment() if env is None else env
    done = subprocess.run(
        [sys.executable, "-m", "runmem", *arguments], cwd=folder, env=env, capture_output=True, text=True,
        timeout=timeout_s, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Ran(folder, done.returncode, done.stdout, done.stderr, env.get(MARK, ""))


@pytest.fixture(scope="session")
def runmem() -> Callable[..., Ran]:
    """Return `run_command`."""
    return run_command


@pytest.fixture(scope="session")
def write() -> Callable[[Path, str, str], Path]:
    """Return `write_file`."""
    return write_file


@pytest.fixture(scope="session")
def environment() -> Callable[..., dict[str, str]]:
    """Return `make_environment`."""
    return make_environment


@pytest.fixture(scope="session")
def processes_with() -> Callable[[str], dict[int, str]]:
    """Return `living_with`."""
    return living_with


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for runs that the tests of a module share."""
    return tmp_path_factory.mktemp("run")


@contextmanager
def not_ignored(*numbers: signal.Signals) -> Iterator[None]:
    """Undo, for programs started within, that `nohup` or a shell ignores signals for the tests."""
    ignored = [number for number in numbers if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts ``runmem``; end after the test what still runs."""
    started: list[tuple[subprocess.Popen[str], str]] = []

    def begin(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        env = options.pop("env", None) or make_environment()
        with not_ignored(signal.SIGHUP, signal.SIGINT):
            process = subprocess.Popen(
                [sys.executable, "-m", "runmem", *arguments], cwd=folder, env=env, text=True, start_new_session=True,
                **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options},
            )  # fmt: skip
        started.append((process, env[MARK]))
        return process

    yield begin
    for process, mark in started:
        for pid in living_with(mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def file_system(request: pytest.FixtureRequest) -> Callable[..., Path]:
    """Return a function that mounts a small file system in memory; skip where that is not allowed."""

    def mount(folder: Path, *options: str) -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
        if sys.platform != "linux" or shutil.which("mount") is None:
            pytest.skip("needs Linux and mount")
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting a small file system is not allowed here: {done.stderr.strip()}")
        request.addfinalizer(lambda: folder.is_mount() and subprocess.run(["umount", "-l", str(folder)], check=True))
        return folder

    return mount
