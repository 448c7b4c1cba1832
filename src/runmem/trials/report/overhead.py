"""What measuring cost the command: its wall time under all methods, under some, and under none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from runmem.trials.report.grid import Grid
from runmem.trials.trial import Execution, Trial
from runmem.trials.variants import Variant
from runmem.trials.watch import Watch, is_disturbed

__all__ = ["Overhead", "overheads_of", "wall_grid"]

_BASES = (Watch.NOTHING, Watch.UNTRACED)


@dataclass(frozen=True, slots=True)
class Overhead:
    """The wall times of one variant under one start, by what watched it.

    Attributes
    ----------
    variant : Variant
    start : str
    walls_s : dict of Watch to list of float
    processes : int
        The most that an execution had; 0 where they were not followed.
    stopped_share : float or None
        Of its wall time, that the command stood still for being followed: the median of the executions. At
        least: from the number of stops and the processor time of the process that follows, which may wait for one.
    is_held_up : bool
        Whether that was too much to be left out.
    """

    variant: Variant
    start: str
    walls_s: dict[Watch, list[float]]
    processes: int
    stopped_share: float | None
    is_held_up: bool = False

    @property
    def base(self) -> Watch | None:
        """What the others are compared with: the executions under nothing, else those that nothing stopped."""
        return next((each for each in _BASES if each in self.walls_s), None) if len(self.walls_s) > 1 else None

    def ratio(self, watch: Watch) -> float | None:
        """Return the median wall time under `watch` over that of the base, less 1; None where there is no other."""
        base = self.base
        if base is None or watch is base or watch not in self.walls_s:
            return None
        return median(self.walls_s[watch]) / median(self.walls_s[base]) - 1

    @property
    def note(self) -> str | None:
        """What to know of a number of a method that follows processes; None where it shared all its executions."""
        if self.ratio(Watch.TRACED) is None:
            return None
        return f"executions of its own: stopped for at least {self.stopped_share or 0:.1%} of them"

    def sentences(self, under: str) -> list[str]:
        """Return what measuring did to the wall time, where it is known or too much to be left out."""
        said, name = [], f"{self.variant.label}{under}"
        following = (
            f"{name}: following its processes ({self.processes}) to their ends, for hwm, held it up for at least "
        )
        following += f"{self.stopped_share or 0:.1%} of its wall time"
        if Watch.TRACED in self.walls_s and self.base is not None:
            said.append(f"{following}, so after the first execution hwm had executions of its own: "
                        f"{self._compared(Watch.TRACED)}.")  # fmt: skip
        elif self.is_held_up:
            said.append(f"{following}.")
        if self.base is Watch.NOTHING:
            others = [watch for watch in (Watch.ALL, Watch.UNTRACED) if watch in self.walls_s][-1:]
            said += [f"{name}: under {watch} it took {self._compared(watch)}." for watch in others]
        return said

    def _compared(self, watch: Watch) -> str:
        assert self.base is not None
        walls, others = self.walls_s[watch], self.walls_s[self.base]
        own, other = median(walls), median(others)
        overlap = "" if min(walls) > max(others) or max(walls) < min(others) else "; the ranges overlap"
        return f"{own / other - 1:+.1%} wall (medians: {own:.3f} s, and {other:.3f} s under {self.base}{overlap})"


def overheads_of(trial: Trial) -> list[Overhead]:
    """Return what is known of each command and the baseline, under each start."""
    found = []
    for variant in trial.plan.variants:
        for start in trial.plan.starts:
            done = [each for each in trial.executions
                    if each.counts and each.variant == variant and each.start == start.name]  # fmt: skip
            if done:
                found.append(_overhead(variant, start.name, done))
    return found


def _overhead(variant: Variant, start: str, done: Sequence[Execution]) -> Overhead:
    walls: dict[Watch, list[float]] = {}
    shares = []
    for each in done:
        if each.outcome.wall_s is not None:
            walls.setdefault(each.watch, []).append(each.outcome.wall_s)
            if each.outcome.stopped_s is not None and each.outcome.wall_s > 0:
                shares.append(each.outcome.stopped_s / each.outcome.wall_s)
    processes = max(each.process_count for each in done)
    held_up = any(is_disturbed(each.outcome) for each in done)
    return Overhead(variant, start, walls, processes, median(shares) if shares else None, held_up)


def wall_grid(overheads: Sequence[Overhead], several_starts: bool) -> Grid:
    """Return the table of the wall times, of what was executed under different methods; empty where nothing was."""
    titles = ["Run", *(["Start"] if several_starts else []), "Watched by", "Median", "Min", "Max", "n", "Overhead"]
    rows = []
    for each in overheads:
        if each.base is None:
            continue
        label = each.variant.label
        for watch in Watch:
            walls = each.walls_s.get(watch)
            if walls is None:
                continue
            ratio = each.ratio(watch)
            start = [each.start] if several_starts else []
            told = [*(f"{value:.3f} s" for value in (median(walls), min(walls), max(walls))), str(len(walls))]
            rows.append([label, *start, watch.value, *told, "-" if ratio is None else f"{ratio:+.1%}"])
            label = ""
    return Grid("Wall time", titles, rows, {"Median", "Min", "Max", "n", "Overhead"})
