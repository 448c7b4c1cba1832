"""What every run must show, whatever became of it: one function a claim; each returns what is wrong, or nothing."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from trial import Trial

from runmem.store.run import RunData, read_run

LATE_S = 1.0
"""What ended less than this before a death need not have a record."""
_AT_ONCE_S = 0.1

_OURS = re.compile(r'File "[^"]*/(?:runmem|distributed|dask|tornado|asyncio|concurrent|multiprocessing)/[^"]*", line')


def runs_of(trial: Trial) -> list[Path]:
    return sorted((trial.work / "runmem_runs").glob("*"))


def ends(trial: Trial) -> Iterator[str]:
    """A run ends."""
    if trial.code is None:
        yield f"a hang: it did not end; the master was at\n{trial.stacks[-3000:]}"


def right_or_an_error(trial: Trial) -> Iterator[str]:
    """Results are right, or an error says that there are none."""
    if trial.code is None:
        return
    lines = trial.out.splitlines()
    if trial.code == 0:
        if lines != trial.program.expected:
            yield f"a wrong result with exit code 0: {_difference(lines, trial.program.expected)}"
        for name, content in trial.program.files.items():
            path = trial.work / name
            found = path.read_text() if path.exists() else None
            if found != content:
                yield f"a wrong file with exit code 0: {name} has {found!r}, not {content!r}"
        return
    if lines != trial.program.expected[: len(lines)]:
        wrong = _difference(lines, trial.program.expected)
        yield f"a wrong result before it ended with exit code {trial.code}: {wrong}"
    hit = [sent for sent in trial.sent if sent.fault.target in ("master", "group")]
    if not hit and not trial.err.strip():
        yield f"exit code {trial.code} without a word"
    if not trial.sent:
        yield f"exit code {trial.code} though nothing was done to it: {trial.err[-1500:]}"
    for sent in trial.sent:
        if trial.code in (-signal.SIGSEGV, 128 + signal.SIGSEGV) and sent.fault.number != signal.SIGSEGV:
            yield f"exit code {trial.code}"


def _difference(found: list[str], expected: list[str]) -> str:
    for number, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one != other:
            return f"line {number + 1} is {one!r}, not {other!r}"
    return f"{len(found)} lines, not {len(expected)}"


def no_torn_line(trial: Trial) -> Iterator[str]:
    """Every line of the files of records is whole."""
    for run in runs_of(trial):
        for path in run.rglob("*.jsonl"):
            text = path.read_bytes()
            if text and not text.endswith(b"\n"):
                yield f"a torn line at the end of {path}: {text[-80:]!r}"
            for number, line in enumerate(text.splitlines(), 1):
                try:
                    json.loads(line)
                except ValueError:
                    yield f"a torn line: {path}:{number}: {line[:120]!r}"


def no_record_lost(trial: Trial) -> Iterator[str]:
    """What ended a second or more before its end was cut off has a record, and what ended is not called killed."""
    runs = runs_of(trial)
    truth = trial.truth
    if not runs or not truth or trial.code is None:
        return
    data = read_run(runs[-1])
    late = _cuts(trial)
    ended: Counter[tuple[str, int]] = Counter()
    surely: Counter[tuple[str, int]] = Counter()
    begun: Counter[tuple[str, int]] = Counter()
    surely_cut: Counter[tuple[str, int]] = Counter()
    open_calls: dict[tuple[str, int, int], float] = {}
    for word, name, pid, call, time_s in truth:
        if word == "begin":
            begun[name, pid] += 1
            open_calls[name, pid, call] = time_s
        else:
            ended[name, pid] += 1
            open_calls.pop((name, pid, call), None)
            surely[name, pid] += time_s < late(pid)
    for (name, pid, _), time_s in open_calls.items():
        surely_cut[name, pid] += time_s < late(pid)
    recorded, killed = _counted(data)
    for key, number in surely.items():
        if recorded[key] < number:
            yield f"{number - recorded[key]} lost records of {key[0]} of worker {key[1]}, of {number} that had ended"
    for key in recorded:
        if recorded[key] > ended[key] + (begun[key] - ended[key]):
            yield f"{recorded[key]} records of {key[0]} of worker {key[1]}, which ran {begun[key]} times"
    at_once = sum(late(pid) - _AT_ONCE_S < time_s for word, _, pid, _, time_s in truth if word == "end")
    more = sum(max(0, killed[key] - (begun[key] - ended[key])) for key in killed)
    if more > at_once:
        yield f"{more} records say killed of calls that had ended: {sorted(killed.items())}"
    unnamed = {key: number - killed[key] for key, number in surely_cut.items() if number > killed[key] + recorded[key]}
    if unnamed:
        yield f"calls that were cut off and are not named as killed: {sorted(unnamed.items())}"
    incomplete = any(recorded[key] < number for key, number in ended.items())
    if incomplete and data.provenance.get("records_complete") and data.provenance.get("lost") in ([], {}, None):
        yield "run.json says that the records are complete, and they are not"


def _counted(data: RunData) -> tuple[Counter[tuple[str, int]], Counter[tuple[str, int]]]:
    recorded: Counter[tuple[str, int]] = Counter()
    killed: Counter[tuple[str, int]] = Counter()
    for record in data.records:
        (killed if record.status == "killed" else recorded)[record.name, record.pid] += 1
    return recorded, killed


def _cuts(trial: Trial) -> Callable[[int], float]:
    """Return the function that tells, for a worker, until when what it did must be known."""
    everywhere = min(
        (sent.time_s for sent in trial.sent
         if sent.fault.number == signal.SIGKILL and sent.fault.target in ("master", "group", "host")),
        default=trial.ended_s or float("inf"),
    )  # fmt: skip

    def late(pid: int) -> float:
        hit = [sent.time_s for sent in trial.sent if pid in sent.pids]
        return min([everywhere - LATE_S, *(time_s - _AT_ONCE_S for time_s in hit)])

    return late


def no_traceback_of_ours(trial: Trial) -> Iterator[str]:
    """Nobody is shown the inside of runmem or Dask."""
    if found := _OURS.search(trial.err + trial.out):
        start = max(0, found.start() - 600)
        yield f"a traceback of runmem's or Dask's: {(trial.err + trial.out)[start : found.end() + 500]}"
    elif "Exception ignored" in trial.err or "Fatal Python error" in trial.err:
        yield f"Python's own complaint: {trial.err[-1500:]}"


def nothing_left(trial: Trial) -> Iterator[str]:
    """No process and no folder stays; the spool of a killed master is what its report is made from."""
    if trial.left and trial.code is not None:
        yield f"processes are left: {sorted(trial.left.items())}"
    for path in sorted(trial.tmp.iterdir()) if trial.tmp.is_dir() else []:
        if path.name.startswith("runmem-dask-") and trial.master_was_killed:
            continue  # nobody was left to remove it; the next run does
        if re.fullmatch(r"runmem-\d+", path.name) and (trial.master_was_killed or not any(path.iterdir())):
            continue
        inside = [str(part.relative_to(trial.tmp)) for part in path.rglob("*")][:8] if path.is_dir() else []
        yield f"{path.name} is left in TMPDIR: {inside}"
    for path in trial.work.rglob("*"):
        if path.name.endswith((".partial", ".lock")) or ".runmem-tls" in path.name:
            yield f"{path} is left"


def nothing_else_changed(trial: Trial) -> Iterator[str]:
    """Files and devices outside the run's folders are as they were."""
    for name in trial.before.keys() | trial.after.keys():
        if trial.before.get(name) != trial.after.get(name):
            yield f"{name} was changed: {trial.before.get(name)} to {trial.after.get(name)}"


ALL = (ends, right_or_an_error, no_torn_line, no_record_lost, no_traceback_of_ours, nothing_left, nothing_else_changed)


def wrongs(trial: Trial, claims: tuple[Callable[[Trial], Iterator[str]], ...] = ALL) -> list[str]:
    """Return all that is wrong with a run."""
    return [f"{claim.__name__}: {wrong}" for claim in claims for wrong in claim(trial)]
