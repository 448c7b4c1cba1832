"""One run of one program in a folder of its own, under faults, and all that is known of it afterwards."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import Fault, Sent, send, until_exists
from generated import Generated

SOURCE = Path(__file__).parents[2] / "src"
MARK = "RUNMEM_TEST_MARK"
PATIENCE_S = 60.0
_GONE_S = 15.0


def processes_with(mark: str) -> dict[int, str]:
    """Return the living processes that inherited the mark of a trial: process id to command line."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                    if state != "Z":
                        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                        found[int(folder.name)] = command
            except OSError:
                continue
    return found


def seen(*places: Path) -> dict[str, Any]:
    """Return what is in some places: kind, mode, owner and content of all, which is to be the same afterwards."""
    found: dict[str, Any] = {}
    for place in places:
        for path in [place, *sorted(place.rglob("*"))] if place.is_dir() and not place.is_symlink() else [place]:
            status = path.lstat()
            content: str | None = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, content)
    return found


@dataclass
class Trial:
    """A run that is to be judged.

    Attributes
    ----------
    folder : Path
        Holds ``work`` (the program and its run), ``tmp``, ``home``, ``beside``.
    began_s, ended_s, said_s : float
        When it was started, when it had ended, and when it printed for the last time (0: never), in seconds since the
        epoch.
    """

    folder: Path
    program: Generated
    code: int | None = None
    out: str = ""
    err: str = ""
    began_s: float = 0.0
    ended_s: float = 0.0
    said_s: float = 0.0
    sent: list[Sent] = field(default_factory=list)
    left: dict[int, str] = field(default_factory=dict)
    stacks: str = ""
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def tmp(self) -> Path:
        return self.folder / "tmp"

    @property
    def truth(self) -> list[tuple[str, str, int, int, float]]:
        """What the tasks themselves say: ``begin`` or ``end``, the task, its process, its number, the time."""
        path = self.folder / "truth"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(row[0], row[1], int(row[2]), int(row[3]), float(row[4])) for row in rows]

    @property
    def master_was_killed(self) -> bool:
        return any(
            sent.fault.number == signal.SIGKILL and sent.fault.target in ("master", "group") for sent in self.sent
        )


def prepare(folder: Path, program: Generated) -> Trial:
    """Make the folders of a trial, with things beside them that nothing may touch."""
    trial = Trial(folder, program)
    for name in ("work", "tmp", "home", "beside", "points"):
        (folder / name).mkdir(parents=True)
    (trial.work / "app.py").write_text(program.source)
    (folder / "beside" / "thesis.txt").write_text("years of work\n")
    (folder / "home" / "notes.txt").write_text("mine\n")
    (trial.work / "notes.txt").hardlink_to(folder / "home" / "notes.txt")
    (trial.work / "thesis.txt").symlink_to(folder / "beside" / "thesis.txt")
    return trial


def _untouched(trial: Trial) -> dict[str, Any]:
    devices = [Path(name) for name in ("/dev/null", "/dev/full", "/dev/zero") if os.path.exists(name)]
    return seen(trial.folder / "beside", trial.folder / "home", trial.work / "app.py", trial.work / "notes.txt",
                trial.work / "thesis.txt", *devices)  # fmt: skip


def run_trial(
    trial: Trial,
    options: Sequence[str],
    faults: Sequence[Fault] = (),
    meanwhile: Callable[[Trial], None] | None = None,
    patience_s: float = PATIENCE_S,
    **popen: Any,
) -> Trial:
    """Run the program to its end, or until patience is lost.

    Parameters
    ----------
    options : sequence of str
        Of `runmem`, before the program.
    meanwhile : callable, optional
        Called in a thread when the program has begun, with the trial.
    popen : dict
        More of `subprocess.Popen`; ``env`` adds to the environment, ``name`` is the program's.
    """
    mark = uuid.uuid4().hex
    outside = ("RUNMEM_", "COMPSS_", "PYTHON", "DASK_", "CAMPAIGN_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    env |= {"PYTHONPATH": str(SOURCE), MARK: mark, "TMPDIR": str(trial.tmp), "HOME": str(trial.folder / "home"),
            "CAMPAIGN_TRUTH": str(trial.folder / "truth"), "CAMPAIGN_POINTS": str(trial.folder / "points"),
            **popen.pop("env", {})}  # fmt: skip
    trial.before = _untouched(trial)
    out, err = (trial.folder / "out").open("wb"), (trial.folder / "err").open("wb")
    where, name = popen.pop("cwd", trial.work), popen.pop("name", "app.py")
    streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, **popen}
    command = [sys.executable, "-m", "runmem", "--python_memory_profile", *options, name]
    trial.began_s = time.time()
    with out, err:
        process = subprocess.Popen(command, cwd=where, env=env, start_new_session=True, **streams)
    helpers = [threading.Thread(target=_inject, args=(trial, process, mark, faults))]
    if meanwhile is not None:
        helpers.append(threading.Thread(target=meanwhile, args=(trial,)))
    for helper in helpers:
        helper.start()
    try:
        trial.code = process.wait(patience_s)
        trial.ended_s = time.time()
    except subprocess.TimeoutExpired:
        trial.stacks = _stacks(process.pid)
    for number in range(trial.program.points):
        (trial.folder / "points" / f"go-{number}").touch()
    for helper in helpers:
        helper.join()
    end_s = time.monotonic() + (_GONE_S if trial.code is not None else 0)
    while (left := processes_with(mark)) and time.monotonic() < end_s:
        time.sleep(0.05)
    trial.left = left
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    said = (trial.folder / "out").stat()
    trial.said_s = said.st_mtime if said.st_size else 0.0
    for name in ("out", "err"):
        setattr(trial, name, (trial.folder / name).read_text(errors="replace"))
    trial.after = _untouched(trial)
    return trial


def _inject(trial: Trial, process: subprocess.Popen[bytes], mark: str, faults: Sequence[Fault]) -> None:
    """Let the program go on from point to point, and send what is to come at each."""
    points = trial.folder / "points"
    for number in range(trial.program.points):
        here = [fault for fault in faults if fault.point == number]
        if here and not until_exists(points / f"at-{number}", lambda: process.poll() is None, PATIENCE_S):
            return
        for fault in (fault for fault in here if fault.delay_s < 0):
            _send(trial, fault, mark)
        (points / f"go-{number}").touch()
        for fault in (fault for fault in here if fault.delay_s >= 0):
            time.sleep(fault.delay_s)
            _send(trial, fault, mark)


def _send(trial: Trial, fault: Fault, mark: str) -> None:
    if (sent := send(fault, processes_with(mark))) is not None:
        trial.sent.append(sent)


def _stacks(pid: int) -> str:
    """Return where a program that does not end is, if py-spy is there."""
    spy = Path(sys.executable).with_name("py-spy")
    if not spy.exists():
        return "py-spy is not installed"
    return subprocess.run([str(spy), "dump", "--pid", str(pid)], capture_output=True, text=True).stdout
