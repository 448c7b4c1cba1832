"""Damages the files of a run directory at random, and checks the commands that read it.

By hand: ``PYTHONPATH=src python tests/cli/damage.py 10000 [SEED]`` prints each kind of failure and how to get it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import stat
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from runmem.cli import metric, report
from runmem.deaths import Cause, Death
from runmem.errors import RunmemError
from runmem.events import TaskRecord
from runmem.formats.mprof_lines import child_line, cmdline_line, func_line, mem_line
from runmem.pipe_base.butler import FolderButler
from runmem.pipe_base.metadata import TaskMetadata
from runmem.store.layout import RunDirectory
from runmem.store.records import killed, record_to_line
from runmem.store.run import write_provenance
from runmem.units import GIB, MIB
from runmem.verify.job import Job
from runmem.verify.spec_set import SpecificationSet

START = 1_790_000_000.0
LONGEST_S = 20.0
JSON_NAMES = (".json", ".jsonl")

NUMBERS = (
    "0", "-1", "1", "1e308", "-1e308", "1e999", "NaN", "Infinity", "-Infinity", "9" * 25, "9" * 5000, "1.5",
    "4294967296", "18446744073709551616", "253402300800", "1e15", "1e-300", "-0.0", "99999999999", "4.9e-324",
)  # fmt: skip
VALUES = (
    *NUMBERS, "null", "true", "false", '""', '"x"', "[]", "{}", "[[]]", '{"a": 1}', '"\\u0000"', '"\\ud800"',
    '"\\u202e"', '"../../etc"', "[1, 2]", '["x", {"y": null}]', '"' + "a" * 100_000 + '"', "[" * 100_000,
    "[" * 500 + "]" * 500, '{"vm": 3}', '{"vm": []}', '{"n1": {"memory_bytes": "many", "limit_source": 7}}',
    '{"n1": {"memory_bytes": 1e300, "limit_bytes": -5}}',
)  # fmt: skip


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise an AssertionError in the block after a time limit, also in a blocking system call."""

    def end(number: int, frame: object) -> None:
        raise AssertionError(f"it goes on after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Outcome(NamedTuple):
    """The failures of a command."""

    failure: str
    what: str


def make_run(base: Path) -> Path:
    """Make a run directory with all kinds of files, and related input files; return the run directory."""
    run = RunDirectory.create("app", base / "runmem_runs")
    records = []
    for number in range(1, 9):
        record = TaskRecord(
            number, "app", "work" if number % 2 else "rest", "app.py", "n1", 10 + number % 2, 1,
            START + number, 1, START + number + 0.8, 0.5, 50 * MIB, 100 * MIB, 60 * MIB, "hwm", False, "finished",
            limit_bytes=GIB, increment_bytes=50 * MIB,
        )  # fmt: skip
        records.append(record_to_line(record))
    cut_off = replace(record, task_id=9, status="running", end_s=None, peak_bytes=None, increment_bytes=None)
    records.append(record_to_line(killed(cut_off, ([], []), Death(Cause.SIGKILL, "killed by signal 9", 9))))
    run.tasks_jsonl.write_bytes(b"".join(records))
    trace = [cmdline_line("runmem app.py")]
    for tick in range(10):
        trace += [child_line("worker-10", (50 + tick) * MIB, START + tick), mem_line((90 + tick) * MIB, START + tick)]
    trace.append(func_line("app.work", 50 * MIB, START + 1, 60 * MIB, START + 1.8))
    (run.traces / "n1.dat").write_bytes(b"".join(trace) + b"NOTE rss-sum of all\nLOST 3 1790000004.0\n")
    master = [mem_line((100 + tick) * MIB, START + tick) for tick in range(10)]
    (run.traces / "mprofile_20260921132320.dat").write_bytes(b"".join(master))
    replica = run.replicas / "n1"
    replica.mkdir()
    values = {
        "task_id": 11, "attempt": 1, "thread": 1, "start_s": START, "base_bytes": 5 * MIB, "module": "app",
        "name": "work", "file": "app.py", "node": "n1", "pid": 12, "limit_bytes": GIB,
    }  # fmt: skip
    begun = b'{"event": "start", ' + json.dumps(values).encode()[1:] + b"\n"
    ended = [line.replace(b'{"task_id"', b'{"event": "end", "task_id"') for line in records]
    (replica / "tasks-10.jsonl").write_bytes(b"".join(ended))
    (replica / "tasks-12.jsonl").write_bytes(begun)
    (replica / "profiles-10.jsonl").write_bytes(b'{"task_id": 1, "name": "work", "text": "Line #"}\n')
    (run.profiles / "work.txt").write_text("Line #    Mem usage\n")
    write_provenance(run, {
        "app": "app", "run_id": "r", "command": ["runmem", "app.py"], "host": "n1", "pid": 4711, "started_s": START,
        "ended_s": START + 10, "exit_code": 0, "cluster": "local", "workers": 2, "calls": 8,
        "versions": {"python": "3"},
        "settings": {"python_memory_profile": True, "workers": 2}, "lost": ["a spool"], "records_complete": False,
        "nodes": {"n1": {"memory_bytes": 4 * GIB, "limit_bytes": GIB, "limit_source": "cgroup /x"}},
        "trace_files": [str(base / "n1.dat")],
    })  # fmt: skip
    beside = base / "beside"
    beside.mkdir()
    (beside / "metrics.yaml").write_text(
        "- connections: {package: demo, metric: Work, labelName: app}\n  target: app.work\n"
        "- connections: {package: demo, metric: All, labelName: app}\n  target: whole-run\n"
    )
    (beside / "specs.yaml").write_text(
        "name: small\nmetric: demo.Work\nthreshold: {operator: '<', unit: MiB, value: 500}\ntags: [a]\n"
    )
    CliRunner().invoke(metric.command, [str(run.root), "--output", str(beside / "made.job.json")])
    butler = FolderButler(beside / "butler")
    butler.put(TaskMetadata.from_dict({"a": 1, "b": [1.5, 2.5], "c": {"d": "e"}}), "isr_metadata", visit=1)
    butler.put(Job.read(beside / "made.job.json"), "all")
    butler.put({"a": [1, None]}, "plain")
    return run.root


def places(base: Path) -> list[Path]:
    """Return the files that may be damaged."""
    return sorted(path for path in base.rglob("*") if path.is_file() and not path.is_symlink())


def _span(data: bytes, dice: random.Random) -> tuple[int, int]:
    begin = dice.randrange(len(data) + 1)
    return begin, min(len(data), begin + dice.choice((1, 2, 10, 100)))


def _cut(path: Path, dice: random.Random) -> str:
    data = path.read_bytes()
    path.write_bytes(data[: dice.randrange(len(data) + 1)])
    return "cut off"


def _bytes(path: Path, dice: random.Random) -> str:
    data = bytearray(path.read_bytes())
    for _ in range(dice.choice((1, 3, 20))):
        begin, end = _span(bytes(data), dice)
        data[begin:end] = dice.choice((b"", b"\0", b"\xff\xfe", b"\n", b"[", b"}", b'"', b" ", dice.randbytes(5)))
    path.write_bytes(data)
    return "bytes changed"


def _number(path: Path, dice: random.Random) -> str:
    import re

    data = path.read_bytes()
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data))
    for _ in range(dice.choice((1, 1, 2, 5))):
        if found:
            at = found.pop(dice.randrange(len(found)))
            number = dice.choice(NUMBERS).encode()
            data = data[: at.start()] + number + data[at.end() :]
            found = [other for other in found if other.end() <= at.start()]
    path.write_bytes(data)
    return "numbers changed"


def _value(path: Path, dice: random.Random) -> str:
    """Replace a value in JSON or YAML."""
    import re

    data = path.read_bytes()
    found = list(re.finditer(rb': ("[^"]*"|\[[^\[\]]*\]|\{[^{}]*\}|[\w.+-]+)', data))
    if found:
        at = dice.choice(found)
        data = data[: at.start(1)] + dice.choice(VALUES).encode() + data[at.end(1) :]
    path.write_bytes(data)
    return "a value changed"


def _lines(path: Path, dice: random.Random) -> str:
    lines = path.read_bytes().splitlines(keepends=True)
    for _ in range(dice.choice((1, 5))):
        how, at = dice.randrange(5), dice.randrange(len(lines) + 1)
        if how == 0 and lines:
            lines.pop(at % len(lines))
        elif how == 1 and lines:
            lines.insert(at, lines[at % len(lines)])
        elif how == 2:
            lines.insert(at, dice.choice((b"\n", b"MEM\n", b"FUNC a b c d e\n", b"CHLD a 1 2\n", b"null\n", b"[1]\n")))
        elif how == 3:
            dice.shuffle(lines)
        else:
            lines.insert(at, b"x" * dice.choice((10, 70_000, 5_000_000)) + b"\n")
    path.write_bytes(b"".join(lines))
    return "lines changed"


def _swap(path: Path, dice: random.Random) -> str:
    content = dice.choice((
        b"", b"\0" * 100_000, b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{\0}\0", b"\xef\xbb\xbf{}", b"null", b"[]",
        b"3", b'"x"', b"{}", b"a: &a [*a]\n", b"x" * 1_000_000, b"1e999", b"NaN", dice.randbytes(5000),
    ))  # fmt: skip
    path.write_bytes(content)
    return "content replaced"


def _foreign(path: Path, dice: random.Random) -> str:
    """Replace the file by something else, such as a folder or a pipe."""
    path.unlink()
    how = dice.randrange(8)
    if how == 0:
        os.mkfifo(path)
    elif how == 1:
        path.mkdir()
    elif how == 2:
        path.symlink_to(path)
    elif how == 3:
        path.symlink_to("/dev/zero")
    elif how == 4:
        with socket.socket(socket.AF_UNIX) as listener:
            here = Path.cwd()
            os.chdir(path.parent)  # the name of a socket may have 107 bytes
            listener.bind(path.name)
            os.chdir(here)
    elif how == 5:
        path.symlink_to(path.parent / "nothing")
    elif how == 6:
        path.symlink_to("/proc/self/mem")
    else:
        with path.open("wb") as file:
            file.truncate(10 * GIB)
    return "no file" if how < 7 else "a hole of 10 GiB"


def _rename(path: Path, dice: random.Random) -> str:
    names = ("tasks-99999999999999999999999.jsonl", "tasks-.jsonl", "worker.dat", "run.json", "\udcff.dat", "a b\n.dat")
    path.rename(path.with_name(dice.choice(names)))
    return "renamed"


DAMAGES: tuple[Callable[[Path, random.Random], str], ...] = (
    _cut, _bytes, _bytes, _number, _number, _number, _value, _value, _value, _lines, _lines, _swap, _foreign, _rename,
)  # fmt: skip


def commands(base: Path) -> list[tuple[str, Callable[[], Any]]]:
    """Return the commands that read a run, by name."""
    run, beside = base / "runmem_runs" / "app_01", base / "beside"
    node = run / "traces" / "n1.dat"

    def cli(command: Any, *arguments: object) -> Callable[[], Any]:
        def call() -> None:
            done = CliRunner().invoke(command, [str(argument) for argument in arguments])
            if done.exception is not None and not isinstance(done.exception, (RunmemError, SystemExit)):
                raise done.exception
            if isinstance(done.exception, SystemExit) and "Traceback" in done.output:
                raise AssertionError(done.output)

        return call

    out = base / "out"
    return [
        ("report", cli(report.command, run)),
        ("report --json", cli(report.command, run, "--json")),
        ("report --tasks", cli(report.command, run, "--tasks")),
        ("report --figure", cli(report.command, run, "--figure", out / "a.png")),
        ("report --figure svg", cli(report.command, run, "--figure", out / "a.svg")),
        ("report .dat", cli(report.command, node, "--figure", out / "b.png")),
        ("report .dat --json", cli(report.command, node, "--json")),
        ("metric", cli(metric.command, run, "--output", out / "job.json")),
        ("metric --json", cli(metric.command, run, "--json", "--output", out / "job.json")),
        ("metric .dat", cli(metric.command, node, "--output", out / "job.json")),
        ("metric --config --spec", cli(
            metric.command, run, "--config", beside / "metrics.yaml", "--spec", beside / "specs.yaml", "--output",
            out / "job.json")),
        ("metric folder", cli(metric.command, run / "traces", "--output", out / "job.json")),
        ("Job.read", lambda: str(Job.read(beside / "made.job.json").report())),
        ("SpecificationSet", lambda: SpecificationSet.load_file(beside / "specs.yaml", None)),
        ("Butler metadata", lambda: FolderButler(beside / "butler").get("isr_metadata", visit=1)),
        ("Butler Job", lambda: FolderButler(beside / "butler").get("all")),
        ("Butler JSON", lambda: FolderButler(beside / "butler").get("plain")),
    ]  # fmt: skip


def fitting(file: Path, all_commands: list[tuple[str, Callable[[], Any]]], base: Path) -> list[Any]:
    """Return the commands that read `file`."""
    if (base / "beside") in file.parents:
        wanted = {"metrics.yaml": ("--config",), "specs.yaml": ("--config", "Spec"), "made.job.json": ("Job.read",)}
        words = wanted.get(file.name, ("Butler",))
        return [pair for pair in all_commands if any(word in pair[0] for word in words)]
    return [pair for pair in all_commands if pair[0].startswith(("report", "metric"))]


def _is_small_file(path: Path) -> bool:
    return os.path.lexists(path) and stat.S_ISREG(path.lstat().st_mode) and path.lstat().st_size < MIB


def try_one(pristine: Path, seed: int) -> list[Outcome]:
    """Damage a copy of the run at `pristine` with the random `seed`, run a command on it, and return the failures."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="runmem-damage-") as folder:
        base = Path(folder) / "base"
        shutil.copytree(pristine, base)
        (base / "out").mkdir()
        file = dice.choice(places(base))
        done = [dice.choice(DAMAGES)(file, dice)]
        while dice.random() < 0.3 and _is_small_file(file):
            done.append(dice.choice(DAMAGES[:-2])(file, dice))
        name, call = dice.choice(fitting(file, commands(base), base))
        what = f"{name} on {file.relative_to(base)}, {', '.join(done)} (seed {seed})"
        found = []
        try:
            with limited(LONGEST_S):
                call()
        except RunmemError:
            pass
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in where if f"{os.sep}runmem{os.sep}" in frame.filename] or where
            place = f"{os.path.basename(ours[-1].filename)}:{ours[-1].lineno}"
            found.append(Outcome(f"{type(error).__name__} at {place}: {str(error)[:80]}", what))
        for left in base.rglob("*"):
            if left.is_fifo():
                left.unlink()
    return found


def main(count: int, first: int = 0) -> int:
    """Try `count` damages and print the failures; return their number."""
    with tempfile.TemporaryDirectory(prefix="runmem-damage-") as folder:
        pristine = Path(folder) / "pristine"
        pristine.mkdir()
        make_run(pristine)
        outcomes = [outcome for seed in range(first, first + count) for outcome in try_one(pristine, seed)]
    kinds = Counter(outcome.failure for outcome in outcomes)
    examples = {outcome.failure: outcome.what for outcome in outcomes}
    for failure, times in kinds.most_common():
        print(f"{times:5d}  {failure}\n       {examples[failure]}")
    print(f"{len(outcomes)} of {count} damages are not borne")
    return len(outcomes)


if __name__ == "__main__":
    sys.exit(min(main(int(sys.argv[1]), int((sys.argv[2:] or ["0"])[0])), 1))
