"""What a trial costs the command, and how far its methods are off on programs whose memory is known.

Run: ``python benchmarks/trial.py [PAIRS]``, 40 by default. The wall time of a command under all methods is compared
with that of the plain command, in turn, in pairs. Printed is the median of their ratios, and between which values it
lies with 90 % confidence (by resampling the pairs): on a shared machine a single pair may be off by a tenth. Commands:
one that computes, one that touches memory all the time, and one that starts a process after the other, the worst case
of following: then `hwm` has separate executions in a trial, as here.
"""

from __future__ import annotations

import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from runmem.trials import CommandOutcome, Site, Truth, control
from runmem.trials.methods import METHODS, Reading
from runmem.trials.report.verdict import signed
from runmem.trials.starts.local import Local
from runmem.units import MIB, format_bytes

COMPUTE = "x = 0\nfor i in range(9_000_000): x += i"
TOUCH = "for _ in range(6): x = bytearray(150 << 20); x[::4096] = b'1' * len(x[::4096])"
START = "import subprocess\nfor _ in range(600): subprocess.run(['true'])"
MOST_OVERHEAD = 0.02


def under(command: Sequence[str], names: Sequence[str]) -> tuple[CommandOutcome, dict[str, Reading]]:
    """Run a command under methods."""
    with tempfile.TemporaryDirectory() as folder:
        methods = [METHODS[name]() for name in names]
        site = Site(Path(folder))
        for method in methods:
            method.prepare(site)
        outcome = Local().run(command, methods, site)
        return outcome, {reading.column: reading for method in methods for reading in method.collect(outcome)}


def plain_s(command: Sequence[str]) -> tuple[float, float]:
    """Return wall and processor time of a command, from its start to its end, as the trial's are."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=True)
    wall_s = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def trial_s(command: Sequence[str], names: Sequence[str]) -> tuple[float, float]:
    """Return wall and processor time of a command under methods."""
    outcome, _ = under(command, names)
    assert outcome.wall_s is not None
    assert outcome.cpu_s is not None
    return outcome.wall_s, outcome.cpu_s


def overhead(name: str, script: str, names: Sequence[str], shown: str, pairs: int) -> None:
    """Print the ratios of the times of `pairs` pairs, whose order alternates."""
    command = [sys.executable, "-c", script]
    ratios = []
    for number in range(pairs):
        if number % 2:
            plain, measured = plain_s(command), trial_s(command, names)
        else:
            measured, plain = trial_s(command, names), plain_s(command)
        ratios.append([a / b for a, b in zip(measured, plain, strict=True)])
    told = []
    for what, values in zip(("wall", "CPU"), zip(*ratios, strict=True), strict=True):
        low, middle, high = (100 * (value - 1) for value in median_of(values))
        told.append(f"{what} {middle:+6.2f} % ({low:+6.2f} .. {high:+6.2f})")
    print(f"{name:20} {shown:12} {'   '.join(told)}", flush=True)


def median_of(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median between the bounds that it lies in with 90 % confidence."""
    draw = random.Random(0)
    medians = [statistics.median(draw.choices(values, k=len(values))) for _ in range(2000)]
    bounds = statistics.quantiles(medians, n=20)
    return bounds[0], statistics.median(values), bounds[-1]


def errors(repeat: int) -> None:
    """Print the worst errors of hwm and tree on every control; the spike is not tree's to see."""
    print(f"{'control':10} {'hwm, largest process':>22} {'tree, all processes':>22} {'right answer (tree)':>22}")
    for pattern in control.PATTERNS:
        worst = {"hwm": 0, "tree": 0}
        for _ in range(repeat):
            truth, readings = on_control(pattern)
            for column, right in (("hwm", truth.process_bytes), ("tree", truth.tree_bytes)):
                size = readings[column].size_bytes
                assert size is not None
                worst[column] = max(worst[column], size - right, key=abs)
        told = f"{signed(worst['hwm']):>22} {signed(worst['tree']):>22}"
        print(f"{pattern:10} {told} {format_bytes(truth.tree_bytes):>22}", flush=True)
    print(f"targets: hwm {format_bytes(0.5 * MIB)} always; tree 1 % or {format_bytes(MIB)} for what is held 300 ms")


def on_control(pattern: str) -> tuple[Truth, dict[str, Reading]]:
    """Return what is right, and what hwm and tree told of a control that holds 128 MiB for 300 ms."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "truth"
        command = [sys.executable, "-I", "-S", control.__file__, pattern, "--hold_s", "0.3", "--size_mib", "128"]
        _, readings = under([*command, "--truth", str(file), "--folder", folder], ["hwm", "tree"])
        return Truth.from_json(json.loads(file.read_text())), readings


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    everything = [name for name, method in METHODS.items() if "local" in method.starts and method().available() is None]
    print(f"a command in a trial against the plain command, {pairs} pairs: {', '.join(everything)}")
    apart = [name for name in everything if not METHODS[name].traces]
    for name, script in (("computes", COMPUTE), ("touches memory", TOUCH)):
        overhead(name, script, everything, "all methods", pairs)
    overhead("starts 600 processes", START, apart, "all but hwm", pairs)
    overhead("starts 600 processes", START, ["hwm"], "hwm alone", pairs)
    print(f"target: at most {100 * MOST_OVERHEAD:.0f} % of wall, except for hwm, which has separate executions")
    errors(5)


if __name__ == "__main__":
    main()
