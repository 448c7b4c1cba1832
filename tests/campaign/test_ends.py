"""What a machine does to a run: full and read-only disks, deleted folders, closed streams, few descriptors, a clock."""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import checks
import pytest
from faults import until_exists
from generated import generate
from trial import Trial, prepare, run_trial, seen

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and mount"), pytest.mark.timeout(0)]

CLAIMS = (
    checks.ends, checks.keeps_the_exit_code, checks.right_or_an_error, checks.no_torn_line, checks.says_what_is_lost,
    checks.no_traceback_of_ours, checks.nothing_left, checks.nothing_else_changed,
)  # fmt: skip
Condition = Callable[[Trial, random.Random, ExitStack], dict[str, Any]]


@contextmanager
def mounted(folder: Path, size_bytes: int) -> Iterator[None]:
    """Mount a small file system in memory over a folder, with what was in it."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root to mount a small file system")
    aside = folder.with_name(folder.name + ".aside")
    shutil.move(folder, aside)
    folder.mkdir()
    if (done := subprocess.run(command, capture_output=True, text=True)).returncode:
        pytest.skip(f"mounting a small file system is not allowed here: {done.stderr.strip()}")
    try:
        shutil.copytree(aside, folder, symlinks=True, dirs_exist_ok=True)
        yield
    finally:
        shutil.rmtree(aside)
        shutil.copytree(folder, aside, symlinks=True)  # to be looked at when it is unmounted
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()
        shutil.move(aside, folder)


def full_folder(trial: Trial, choose: random.Random, stack: ExitStack) -> dict[str, Any]:
    stack.enter_context(mounted(trial.work, choose.choice((40, 80, 160, 320)) * 1024))
    return {}


def full_spool(trial: Trial, choose: random.Random, stack: ExitStack) -> dict[str, Any]:
    stack.enter_context(mounted(trial.tmp, choose.choice((16, 32, 64, 128)) * 1024))
    return {}


def limited_files(trial: Trial, choose: random.Random, stack: ExitStack) -> dict[str, Any]:
    most = choose.choice((2, 8, 32)) * 1024
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))}


def at_first_point(trial: Trial, act: Callable[[], None]) -> Callable[[Trial], None]:
    """Return what acts when the program is at its first point, and lets it go on."""

    def meanwhile(trial: Trial) -> None:
        if until_exists(trial.folder / "points" / "at-0", lambda: True, 60):
            act()

    return meanwhile


def read_only(trial: Trial, choose: random.Random, stack: ExitStack) -> dict[str, Any]:
    stack.enter_context(mounted(trial.work, 10**7))
    delay_s = choose.uniform(0, 1)

    def act() -> None:
        time.sleep(delay_s)
        subprocess.run(["mount", "-o", "remount,ro", str(trial.work)], capture_output=True)

    return {"meanwhile": at_first_point(trial, act)}


def deleted_runs(trial: Trial, choose: random.Random, stack: ExitStack) -> dict[str, Any]:
    return {"meanwhile": at_first_point(trial, lambda: shutil.rmtree(trial.work / "runmem_runs", ignore_errors=True))}


def deleted_spool(trial: Trial, choose: random.Random, stack: ExitStack) -> dict[str, Any]:
    def act() -> None:
        for folder in trial.tmp.glob("runmem-*/*"):
            shutil.rmtree(folder, ignore_errors=True)

    return {"meanwhile": at_first_point(trial, act)}


def closed_streams(trial: Trial, choose: random.Random, stack: ExitStack) -> dict[str, Any]:
    closed = choose.choice([(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
    if 1 in closed:
        trial.program.expected = []

    def close() -> None:
        for number in closed:
            os.close(number)

    return {"preexec_fn": close}


def full_standard_error(trial: Trial, choose: random.Random, stack: ExitStack) -> dict[str, Any]:
    return {"stderr": stack.enter_context(open("/dev/full", "wb"))}


def jumping_clock(trial: Trial, choose: random.Random, stack: ExitStack) -> dict[str, Any]:
    """Set the clock of every Python process of the run, not that of the machine: it jumps by a minute and back."""
    folder = trial.folder / "clock"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import time\n_true, _true_ns = time.time, time.time_ns\n"
        f"def _offset(): return {choose.choice((-60, 60))} * (int(time.monotonic() / {choose.uniform(0.5, 2)}) % 2)\n"
        "time.time = lambda: _true() + _offset()\ntime.time_ns = lambda: _true_ns() + 10**9 * _offset()\n"
    )
    return {"env": {"PYTHONPATH": f"{folder}:{Path(__file__).parents[2] / 'src'}"}}


CONDITIONS: tuple[Condition, ...] = (
    full_folder, full_spool, limited_files, read_only, deleted_runs, deleted_spool, closed_streams, full_standard_error,
    jumping_clock,
)  # fmt: skip


def run_under(seed: int, folder: Path, condition: Condition) -> list[str]:
    choose = random.Random(f"{condition.__name__} {seed}")
    program = generate(seed, statements=14, files=0, code=choose.choice((0, 4)))
    trial = prepare(folder, program)
    with ExitStack() as stack:
        options = condition(trial, choose, stack)
        run_trial(trial, [f"--workers={choose.choice((1, 2))}"], **options)
    claims = CLAIMS
    if condition is limited_files:  # what the program prints is a file that is limited, too
        trial.program.expected = trial.out.splitlines()
    if condition is jumping_clock:
        claims = (*CLAIMS, times_go_forward)
    found = checks.wrongs(trial, claims)
    if not found:
        shutil.rmtree(folder)
        return []
    return [f"SEED {seed}, {condition.__name__}: exit code {trial.code}; all of it is in {trial.folder}", *found]


def times_go_forward(trial: Trial) -> Iterator[str]:
    """A clock that is set back makes no duration negative, and none of a minute."""
    for run in checks.runs_of(trial):
        for record in checks.read_run(run).records:
            lasted_s = None if record.end_s is None or record.start_s is None else record.end_s - record.start_s
            if lasted_s is not None and not -1e-6 <= lasted_s < 30:
                yield f"{record.name} lasted {lasted_s:.3f} s"


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.__name__)
def test_ends(condition: Condition, tmp_path: Path, each_seed: Callable[..., Iterator[int]]) -> None:
    failed = []
    for seed in each_seed(5000, 1, 0.1):
        if found := run_under(seed, tmp_path / str(seed), condition):
            failed.append("\n  ".join(found))
            print(failed[-1], flush=True)
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("descriptors", [24, 40, 64])
def test_few_descriptors_are_an_error_of_few_lines_or_enough(tmp_path: Path, descriptors: int) -> None:
    trial = prepare(tmp_path / "trial", generate(descriptors, statements=14, files=0))
    run_trial(trial, ["--workers=2"], preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors,) * 2))
    claims = (checks.ends, checks.no_torn_line, checks.no_traceback_of_ours, checks.nothing_left)
    found = checks.wrongs(trial, claims)
    if trial.code == 0:
        found += checks.wrongs(trial, (checks.right_or_an_error,))
    elif not trial.err.strip() or len(trial.err.splitlines()) > 40:
        found.append(f"exit code {trial.code} with {len(trial.err.splitlines())} lines")
    assert not found, "\n".join([trial.err[:3000], *found])


def test_two_runs_in_one_folder_at_once_have_nothing_in_common(
    tmp_path: Path, each_seed: Callable[..., Iterator[int]]
) -> None:
    for seed in each_seed(6000, 1, 0.1):
        folder = tmp_path / str(seed)
        one, other = (
            prepare(folder / name, generate(seed + number, statements=14, files=0))
            for number, name in enumerate(("one", "other"))
        )
        (other.folder / "app.py").write_text(other.program.source)
        (one.work / "other.py").symlink_to(other.folder / "app.py")
        threads = [
            threading.Thread(target=run_trial, args=(one, ["--workers=1"])),
            threading.Thread(
                target=run_trial, args=(other, ["--workers=1"]), kwargs={"cwd": one.work, "name": "other.py"}
            ),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        runs = checks.runs_of(one)
        assert [run.name for run in runs] == ["app_01", "other_01"], one.err + other.err
        found = [
            f"{trial.folder.name}: {wrong}"
            for trial in (one, other)
            for wrong in checks.wrongs(trial, (checks.ends, checks.keeps_the_exit_code, checks.right_or_an_error,
                                               checks.no_traceback_of_ours, checks.nothing_else_changed))
        ]  # fmt: skip
        for run, trial in zip(runs, (one, other), strict=True):
            calls = sum(word == "end" for word, *_ in trial.truth)
            records = checks.read_run(run).records
            if len(records) != calls:
                found.append(f"{run.name} has {len(records)} records of {calls} calls")
        inodes = [{path.stat().st_ino for path in run.rglob("*") if path.is_file()} for run in runs]
        if inodes[0] & inodes[1]:
            found.append("the two runs share a file")
        before = seen(*runs)
        again = prepare(folder / "again", generate(seed + 2, statements=6, files=0))
        (one.work / "again.py").write_text(again.program.source)
        run_trial(again, ["--workers=1"], cwd=one.work, name="again.py")
        if seen(*runs) != before:
            changed = [name for name, what in seen(*runs).items() if before.get(name) != what]
            found.append(f"a later run changed {changed}")
        assert not found, "\n".join([f"SEED {seed}: {folder}", *found])


def test_a_run_after_two_hundred_others_is_as_the_first(tmp_path: Path) -> None:
    trial = prepare(tmp_path / "trial", generate(7000, statements=10, files=0))
    runs = trial.work / "runmem_runs"
    for number in range(1, 201):
        folder = runs / f"app_{number:02d}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}" if number % 3 else '{"app": "app"')
        (folder / "tasks.jsonl").write_text("")
    before = seen(runs)
    run_trial(trial, ["--workers=1"])
    assert checks.wrongs(trial) == []
    assert sorted(run.name for run in runs.iterdir() if str(run) not in before) == ["app_201"]
    assert {name: what for name, what in seen(runs).items() if name in before and name != str(runs)} == {
        name: what for name, what in before.items() if name != str(runs)
    }
