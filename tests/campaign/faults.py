"""What happens to the processes of a run: signals to one of them, or to all, when the program is at a place."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

TARGETS = ("worker", "worker", "worker", "sampler", "tracker", "master", "group")
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP)


@dataclass(frozen=True)
class Fault:
    """One signal.

    Attributes
    ----------
    number : signal.Signals
        SIGSTOP is followed by SIGCONT after `pause_s`.
    target : str
        One of `TARGETS`, or ``host``: all that runs on a simulated host.
    point : int
        Place of the program at which it comes: the program is let go on, and `delay_s` later it is sent; with a delay
        below 0 it is sent while the program waits there.
    which : float
        In [0, 1): which of several workers.
    """

    number: signal.Signals
    target: str
    point: int
    delay_s: float
    pause_s: float
    which: float


def choose_faults(choose: random.Random, points: int, targets: tuple[str, ...] = TARGETS) -> list[Fault]:
    """Return one to three faults, at most one of them of the master or the whole group, and that one last."""
    found = []
    for _ in range(choose.choice((1, 1, 2, 3))):
        delay_s = choose.choice((-1.0, -1.0, 0.0, choose.uniform(0, 0.5)))
        found.append(
            Fault(choose.choice(SIGNALS), choose.choice(targets), choose.randrange(points), delay_s,
                  choose.uniform(0.1, 2.0), choose.random())
        )  # fmt: skip
    found.sort(key=lambda fault: fault.point)
    last = next((i for i, fault in enumerate(found) if fault.target in ("master", "group")), len(found))
    return found[: last + 1]


def kind_of(command: str) -> str | None:
    """Return which part of a run a process is, by its command line."""
    if "resource_tracker" in command:
        return "tracker"
    if "sampler.py" in command:
        return "sampler"
    if "spawn_main" in command:
        return "worker"
    if "-m runmem" in command and "app.py" in command:
        return "master"
    return None


@dataclass(frozen=True)
class Sent:
    """A fault that came to pass: when (seconds since the epoch), and the processes that it hit."""

    fault: Fault
    time_s: float
    pids: tuple[int, ...]


def send(fault: Fault, processes: dict[int, str]) -> Sent | None:
    """Send a signal to what the fault names; None if there is no such process."""
    by_kind: dict[str, list[int]] = {}
    for pid, command in sorted(processes.items()):
        by_kind.setdefault(kind_of(command) or "other", []).append(pid)
    if fault.target == "group":
        pids = sorted(processes)
    elif fault.target == "host":
        workers = [pid for pid, command in processes.items() if "clusters.node_workers" in command]
        pids = [sorted(workers)[int(fault.which * len(workers))]] if workers else []
    else:
        there = by_kind.get(fault.target, [])
        pids = [there[int(fault.which * len(there))]] if there else []
    if not pids:
        return None
    sent_s = time.time()
    # As a terminal or a batch system sends it to all: the master first, and no one between two of them.
    for pid in sorted(pids, key=lambda pid: kind_of(processes[pid]) != "master"):
        _signal(pid, fault.number)
    if fault.number == signal.SIGSTOP:
        time.sleep(fault.pause_s)
        for pid in pids:
            _signal(pid, signal.SIGCONT)
    return Sent(fault, sent_s, tuple(pids))


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def until_exists(path: Path, alive, patience_s: float) -> bool:
    """Wait for a file; return whether it came while the program lived."""
    end_s = time.monotonic() + patience_s
    while time.monotonic() < end_s:
        if path.exists():
            return True
        if not alive():
            return path.exists()
        time.sleep(0.005)
    return False
