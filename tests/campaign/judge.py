"""Runs the trials of some seeds under random signals, and says what is wrong with them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from checks import wrongs
from faults import TARGETS, choose_faults
from generated import generate
from trial import Trial, prepare, run_trial


def judge(seed: int, folder: Path, options: Sequence[str], targets: tuple[str, ...] = TARGETS) -> list[str]:
    """Run the trial of a seed; return what is wrong, with all that is needed to look at it."""
    choose = random.Random(f"faults {seed}")
    program = generate(seed)
    workers = choose.choice((2, 4) if "host" in targets else (1, 2, 4))
    faults = choose_faults(choose, program.points, targets)
    trial = run_trial(prepare(folder, program), [f"--workers={workers}", *options], faults)
    found = wrongs(trial)
    if found:
        return [described(seed, trial, workers, options), *found]
    shutil.rmtree(folder)
    return []


def described(seed: int, trial: Trial, workers: int, options: Sequence[str]) -> str:
    what = ", ".join(f"{sent.fault.number.name} to {sent.fault.target} {sent.pids[:3]} at point {sent.fault.point} "
                     f"({sent.fault.delay_s:.2f} s)" for sent in trial.sent)  # fmt: skip
    return (
        f"SEED {seed}: {workers} workers {' '.join(options)}; {what or 'no signal'}; exit code {trial.code} after "
        f"{trial.ended_s - trial.began_s:.1f} s; all of it is in {trial.folder}"
    )


def wrong_trials(
    seeds: Iterator[int], folder: Path, options: Sequence[str], targets: tuple[str, ...] = TARGETS
) -> list[str]:
    """Run the trials of all seeds; return what is wrong with those that are not as they must be."""
    wrong = []
    for seed in seeds:
        if found := judge(seed, folder / str(seed), options, targets):
            wrong.append("\n  ".join(found))
            print(wrong[-1], flush=True)
    return wrong
