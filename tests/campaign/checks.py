"""What every run must show, whatever became of it: one function a claim; each returns what is wrong, or nothing."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trial import Trial

from runmem.store.run import RunData, read_run

LATE_S = 1.0
"""What ended less than this before a death need not have a record."""
_AT_ONCE_S = 0.1

_OURS = re.compile(r'File "[^"]*/(?:runmem|distributed|dask|tornado|asyncio|concurrent|multiprocessing)/[^"]*", line')
_TRACKER = re.compile(r'Traceback [^\n]*\n  File "[^"]*resource_tracker.py"[^\n]*\n(?:    [^\n]*\n)*KeyError: [^\n]*\n')


def runs_of(trial: Trial) -> list[Path]:
    """Return the run directories, the newest last."""
    found = (trial.work / "runmem_runs").glob("*_*")
    return sorted(found, key=lambda run: (run.name.rpartition("_")[0], int(run.name.rpartition("_")[2])))


def ends(trial: Trial) -> Iterator[str]:
    """A run ends."""
    if trial.code is None:
        yield f"a hang: it did not end; the master was at\n{trial.stacks[-3000:]}"


def right_or_an_error(trial: Trial) -> Iterator[str]:
    """Results are right, or an error says that there are none."""
    if trial.code is None:
        return
    lines, expected = trial.out.splitlines(), trial.program.expected
    if trial.code == trial.program.code:
        if lines != expected:
            yield f"a wrong result with exit code {trial.code}: {_difference(lines, expected)}"
        for name, content in trial.program.files.items():
            path = trial.work / name
            found = path.read_text() if path.exists() else None
            if found != content:
                yield f"a wrong file with exit code {trial.code}: {name} has {found!r}, not {content!r}"
        return
    if lines != expected[: len(lines)]:
        yield f"a wrong result before it ended with exit code {trial.code}: {_difference(lines, expected)}"
    yield from _error_is_told(trial)


def _error_is_told(trial: Trial) -> Iterator[str]:
    hit = [sent for sent in trial.sent if sent.fault.target in ("master", "group")]
    if not hit and not trial.err.strip():
        yield f"exit code {trial.code} without a word"
    if not trial.sent:
        yield f"exit code {trial.code} though nothing was done to it: {trial.err[-1500:]}"
    if trial.code in (-signal.SIGSEGV, 128 + signal.SIGSEGV):
        yield f"exit code {trial.code}"


def keeps_the_exit_code(trial: Trial) -> Iterator[str]:
    """The program ends with its own exit code, whatever becomes of what is measured."""
    if trial.code is not None and trial.code != trial.program.code:
        yield f"exit code {trial.code}, not {trial.program.code}: {trial.err[-1500:]}"


def says_what_is_lost(trial: Trial) -> Iterator[str]:
    """Where records are missing the run says so, and does not call the tasks killed."""
    runs = [run for run in runs_of(trial) if (run / "run.json").exists()]
    if not runs or trial.code is None:
        return
    data = read_run(runs[-1])
    recorded, killed = _counted(data)
    missing = sum(word == "end" for word, *_ in trial.truth) - recorded.total()
    said = data.provenance.get("lost") or re.search(r"(?i)lost|could not|not measured|cannot|no space", trial.err)
    if missing > 0 and not said:
        yield f"{missing} records are missing without a word"
    if any(record.status == "killed" for record in data.records) and not trial.sent:
        yield f"{killed.total()} records say killed of a run in which nothing was"


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


_Key = tuple[str, int]  # a task and the process of a worker


@dataclass
class _Executions:
    """What the tasks themselves say that ran: all, what surely must be known, and what was cut off."""

    begun: Counter[_Key]
    ended: Counter[_Key]
    surely_ended: Counter[_Key]
    surely_cut: Counter[_Key]

    @classmethod
    def of(cls, trial: Trial) -> _Executions:
        found, late = cls(Counter(), Counter(), Counter(), Counter()), _cuts(trial)
        running: dict[tuple[str, int, int], float] = {}
        for word, name, pid, call, time_s in trial.truth:
            if word == "begin":
                found.begun[name, pid] += 1
                running[name, pid, call] = time_s
            else:
                found.ended[name, pid] += 1
                found.surely_ended[name, pid] += time_s < late(pid)
                running.pop((name, pid, call), None)
        for (name, pid, _), time_s in running.items():
            found.surely_cut[name, pid] += time_s < late(pid)
        return found


def no_record_lost(trial: Trial) -> Iterator[str]:
    """What ended a second or more before its end was cut off has a record, and what ended is not called killed."""
    runs = runs_of(trial)
    if not runs or not trial.truth or trial.code is None:
        return
    data = read_run(runs[-1])
    ran = _Executions.of(trial)
    recorded, killed = _counted(data)
    missing = ran.surely_ended - recorded - _ran_again(trial, data)
    for key, number in missing.items():
        ended = ran.surely_ended[key]
        yield f"{number} lost records of {key[0]} of worker {key[1]}, of {ended} that had ended"
    for key in recorded:
        if recorded[key] > ran.begun[key]:
            yield f"{recorded[key]} records of {key[0]} of worker {key[1]}, which ran {ran.begun[key]} times"
    late = _cuts(trial)
    at_once = sum(late(pid) < time_s for word, _, pid, _, time_s in trial.truth if word == "end")
    more = sum(max(0, killed[key] - (ran.begun[key] - ran.ended[key])) for key in killed)
    if more > at_once:
        yield f"{more} records say killed of calls that had ended: {sorted(killed.items())}"
    unnamed = {key: n - killed[key] for key, n in ran.surely_cut.items() if n > killed[key]}
    if unnamed:
        yield f"calls that were cut off and are not named as killed: {sorted(unnamed.items())}"
    if missing and data.provenance.get("records_complete") and not data.provenance.get("lost"):
        yield "run.json says that the records are complete, and they are not"


def _counted(data: RunData) -> tuple[Counter[_Key], Counter[_Key]]:
    """Return how many records there are of what ended, and of what was killed or cancelled."""
    recorded: Counter[_Key] = Counter()
    killed: Counter[_Key] = Counter()
    for record in data.records:
        (recorded if record.status in ("finished", "failed") else killed)[record.name, record.pid] += 1
    return recorded, killed


def _ran_again(trial: Trial, data: RunData) -> Counter[_Key]:
    """Count the runs of functions that have no record of their own.

    A function runs again within its execution if a file that it read was replaced meanwhile (`FileAttempt`).
    """
    found: Counter[_Key] = Counter()
    for record in data.records:
        if record.status in ("finished", "failed"):
            end, until_s = ("end", record.name, record.pid), record.end_s or 0.0
            times_s = [time_s for word, name, pid, _, time_s in trial.truth if (word, name, pid) == end]
            ends = sum(record.start_s < time_s < until_s for time_s in times_s)
            found[record.name, record.pid] += max(0, ends - 1)
    return found


def _cuts(trial: Trial) -> Callable[[int], float]:
    """Return the function that tells, for a worker, until when what it did must be known.

    A call whose result is there already may run again, for a worker died that held it, and be cut off by the end.
    """
    end_s = trial.said_s or trial.ended_s or float("inf")
    for sent in trial.sent:
        if sent.fault.target in ("master", "group", "host") and sent.fault.number != signal.SIGSTOP:
            killed = sent.fault.number == signal.SIGKILL
            end_s = min(end_s, sent.time_s - (LATE_S if killed else 0))

    def late(pid: int) -> float:
        hit = [sent.time_s for sent in trial.sent if pid in sent.pids and sent.fault.number != signal.SIGSTOP]
        return min([end_s, *(time_s - _AT_ONCE_S for time_s in hit)])

    return late


def no_traceback_of_ours(trial: Trial) -> Iterator[str]:
    """Nobody is shown the inside of runmem or Dask."""
    shown = trial.err + trial.out
    if any(sent.fault.target in ("tracker", "group") for sent in trial.sent):
        # Python's own tracker of semaphores was killed and started again: it complains of each that it does not know.
        shown = _TRACKER.sub("", shown)
    if found := _OURS.search(shown):
        yield f"a traceback of runmem's or Dask's: {shown[max(0, found.start() - 600) : found.end() + 500]}"
    elif "Exception ignored" in shown or "Fatal Python error" in shown:
        yield f"Python's own complaint: {shown[-1500:]}"


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
