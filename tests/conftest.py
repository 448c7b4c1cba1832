"""What every folder of tests shares: signals, kinds and order of tests, waiting, and places to write a file."""

from __future__ import annotations

import fcntl
import inspect
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

TESTS = Path(__file__).parent
SERVICES = ("slurm", "hosts", "campaign/test_kills_over_hosts.py")
"""What makes something of which the machine has one: never two of them at once."""
ONE_MORE = pytest.StashKey[bool]()
"""Whether there is one process more than was asked for."""
SERVICE_FIXTURES = {"slurm", "network", "ssh_server"}  # what starts daemons: Slurm's, SSH servers
SLOW = (  # folders and files whose tests nearly all take more than two seconds; single tests carry the mark themselves
    "campaign", "differential", "end_to_end", "examples", "workers",
    "measurement/test_measure.py", "measurement/test_measure_only.py",
    *(f"docs/test_{page}.py" for page in (
        "lsst", "metric_jobs", "metrics", "program", "semantics", "site", "task_runner", "tasks", "traces", "trials",
        "tutorial",
    )),
    *(f"execution/test_{name}.py" for name in (
        "forgiving", "killed_master", "killed_tasks", "long_run", "time_limits"
    )),
    *(f"lsst/test_{name}.py" for name in ("lsst_timer", "quantum_graph_executor", "task_runner")),
)  # fmt: skip
LONG = (
    "differential", "campaign", "lsst", "task_runner", "workers", "examples", "end_to_end", "clusters", "execution",
    "docs", "trials", "measurement", "cli",
)  # fmt: skip


def pytest_configure() -> None:
    """Let Ctrl-C end programs that tests start, even if a shell started the tests with it ignored (``pytest &``)."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Add a process for the services and long tests of a full run: these wait a third of their time."""
    everything = [Path(argument).resolve() for argument in config.args] == [TESTS]
    processes = config.getoption("numprocesses", None)
    if everything and "service" not in config.option.markexpr and isinstance(processes, int) and processes > 1:
        config.option.numprocesses += 1
        config.stash[ONE_MORE] = True


@pytest.fixture(autouse=True)
def _signal_handlers_restored() -> Iterator[None]:
    """Restore the signal handlers after each test: a command line that ends in this process ignores signals."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that the fast run leaves out, and run the longest first so that the processes end together."""
    for item in items:
        place = item.path.relative_to(TESTS)
        if SERVICE_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.service)
        if any(place.is_relative_to(slow) for slow in SLOW):
            item.add_marker(pytest.mark.slow)
    if hasattr(config, "workerinput"):
        first = [*SERVICES, *LONG]
        items.sort(key=lambda item: _rank(first, item.path.relative_to(TESTS)))


def _rank(first: Sequence[str], place: Path) -> int:
    """Return the number of the first of these folders and files that has a place."""
    return next((rank for rank, each in enumerate(first) if place.is_relative_to(each)), len(first))


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process whole files, whose tests share clusters and runs; all services count as one file.

    Marks for groups would do the same, but pytest-xdist 3.8 does not see them under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            place = (config.rootpath / nodeid.partition("::")[0]).relative_to(TESTS)
            return "services" if _rank(SERVICES, place) < len(SERVICES) else place.as_posix()

        def _reschedule(self, node: Any) -> None:
            following = Path(next(iter(self.workqueue), ""))
            is_one_more = config.stash.get(ONE_MORE, False) and "services" in self.assigned_work[node]
            if is_one_more and _rank(LONG, following) == len(LONG):
                if not node.shutting_down:
                    node.shutdown()  # once it has run what it has
            else:
                super()._reschedule(node)

    config.option.loadscopereorder = False  # in our order
    return ByFile(config, log)


def _eventually(condition: Callable[[], T], within: float = 60) -> T:
    """Call `condition` until its value is true and return that; fail after `within` seconds.

    The failure shows the last value and the source of `condition`.
    """
    __tracebackhide__ = True
    end_s = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > end_s:
            try:
                source = inspect.getsource(condition).strip()
            except (OSError, TypeError):  # a method of a built-in type, a partial
                source = repr(condition)
            pytest.fail(f"the value is still {value!r} after {within:g} s: {source}")
        time.sleep(0.01)
    return value


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """Return a function that waits for a true value: ``eventually(condition, within=60)``."""
    return _eventually


class Target:
    """A place where a test writes, with what exists there before.

    Parameters
    ----------
    kind : str
        One of `WRITTEN` or `REFUSED`.
    path : Path
        The place; the target of a link is made in ``<folder>/elsewhere``.
    """

    WRITTEN = (
        "nothing", "file", "device", "pipe", "link to a file", "link to nothing", "link to a link", "link to a device",
    )  # fmt: skip
    REFUSED = ("folder", "socket", "block device", "link to a folder")
    MODE = 0o640

    def __init__(self, kind: str, path: Path) -> None:
        self.kind, self.path = kind, path
        self._reader: int | None = None
        self.end = self._make(kind, path)
        self._before = self._seen()

    def _make(self, kind: str, path: Path) -> Path:
        """Make a file of this kind; return the path that it leads to."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind.startswith("link to "):
            elsewhere = path.parent / "elsewhere" / ("link" if kind == "link to a link" else path.name)
            pointed_at = kind.removeprefix("link to ").removeprefix("a ")
            end = self._make("link to a file" if pointed_at == "link" else pointed_at, elsewhere)
            path.symlink_to(os.path.relpath(elsewhere, path.parent))
            return end
        if kind == "file":
            path.write_bytes(b"old" * 10_000)
            path.chmod(self.MODE)
        elif kind == "pipe":
            os.mkfifo(path)
            self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            if hasattr(fcntl, "F_SETPIPE_SZ"):
                fcntl.fcntl(self._reader, fcntl.F_SETPIPE_SZ, 1 << 20)
        elif kind in ("device", "block device"):
            try:  # the device that swallows all; a block device of no driver
                number = os.makedev(1, 3) if kind == "device" else os.makedev(240, 0)
                os.mknod(path, 0o666 | (stat.S_IFCHR if kind == "device" else stat.S_IFBLK), number)
            except OSError as error:
                pytest.skip(f"making a {kind} is not allowed here: {error}")
        elif kind == "folder":
            path.mkdir()
            (path / "inside").touch()
        elif kind == "socket":
            before = Path.cwd()
            os.chdir(path.parent)  # the name of a socket must be short
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(path.name)
            os.chdir(before)
        return path

    def _seen(self) -> list[Any]:
        found: list[Any] = []
        for path in {self.path, self.end}:
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            link = os.readlink(path) if path.is_symlink() else None
            found.append((str(path), status.st_mode, status.st_uid, status.st_gid, status.st_rdev, link))
        return sorted(found)

    @property
    def keeps_content(self) -> bool:
        """Whether the written bytes can be read afterwards."""
        return "device" not in self.kind

    def content(self) -> bytes:
        """Return the written bytes."""
        if self._reader is None:
            return self.end.read_bytes()
        found = b""
        while read := os.read(self._reader, 1 << 20):
            found += read
        return found

    def check(self) -> None:
        """Assert that the kinds, modes and owners are as before, and that no other file was left."""
        after = self._seen()
        if self.kind in ("nothing", "link to nothing"):
            after = [entry for entry in after if entry[0] != str(self.end)]
        assert after == self._before
        for folder in {self.path.parent, self.end.parent}:
            assert [name for name in os.listdir(folder) if name.endswith(".partial")] == []

    def close(self) -> None:
        """Close the pipe."""
        if self._reader is not None:
            os.close(self._reader)


@pytest.fixture
def memory_group() -> Iterator[Callable[[int], Path]]:
    """Return a function that makes a memory cgroup of version 1 with a limit in bytes."""
    groups: list[Path] = []

    def make(limit_bytes: int) -> Path:
        group = Path("/sys/fs/cgroup/memory") / f"runmem-test-{os.getpid()}-{len(groups)}"
        try:
            group.mkdir()
            groups.append(group)
            (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
        except OSError as error:
            pytest.skip(f"a memory cgroup of version 1 cannot be made (needs root): {error}")
        return group

    yield make
    for group in groups:
        for pid in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(pid)
        group.rmdir()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with `written_kind` or `refused_kind` once for each kind."""
    for name, kinds in (("written_kind", Target.WRITTEN), ("refused_kind", Target.REFUSED)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, kinds)


@pytest.fixture
def make_target() -> Iterator[Callable[[str, Path], Target]]:
    """Return a function that makes a `Target`."""
    made: list[Target] = []

    def make(kind: str, path: Path) -> Target:
        made.append(Target(kind, path))
        return made[-1]

    yield make
    for target in made:
        target.close()


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return a function that puts a shell script on the PATH under the name of a program."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return make
