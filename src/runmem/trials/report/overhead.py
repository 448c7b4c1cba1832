"""The overhead of measuring: the command's wall time under all methods, under some, and without any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from runmem.trials.report.grid import Grid
from runmem.trials.trial import Trial, TrialExecution
from runmem.trials.variants import Variant
from runmem.trials.watch import Watch, is_slowed_down

__all__ = ["Overhead", "overheads_of", "wall_grid"]

_BASES = (Watch.NOTHING, Watch.UNTRACED)


@dataclass(frozen=True, slots=True)
class Overhead:
    """The wall times of one variant under one start, by watch.

    Attributes
    ----------
    variant : Variant
    start : str
    wall_times_s : dict of Watch to list of float
    processes : int
        Highest number of processes in an execution; 0 if they were not traced.
    stopped_share : float or None
        Share of the wall time for which tracing stopped the command: the median of the executions. A lower bound, from
        the number of stops and the tracer's processor time.
    is_slowed_down : bool
        Whether that share is too high to neglect.
    """

    variant: Variant
    start: str
    wall_times_s: dict[Watch, list[float]]
    processes: int
    stopped_share: float | None
    is_slowed_down: bool = False

    @property
    def base(self) -> Watch | None:
        """The watch that others are compared with: nothing, else the methods that stop nothing."""
        known = [each for each in _BASES if each in self.wall_times_s]
        return known[0] if known and len(self.wall_times_s) > 1 else None

    def ratio(self, watch: Watch) -> float | None:
        """Return the median wall time under `watch` over that of the base, less 1; None without both."""
        base = self.base
        if base is None or watch is base or watch not in self.wall_times_s:
            return None
        return median(self.wall_times_s[watch]) / median(self.wall_times_s[base]) - 1

    @property
    def note(self) -> str | None:
        """A remark on the readings of a tracing method; None if it had no separate executions."""
        if self.ratio(Watch.TRACED) is None:
            return None
        return f"separate executions, stopped for at least {self.stopped_share or 0:.1%} of the time"

    def sentences(self, under: str) -> list[str]:
        """Return sentences on the overhead, if it is known or too high to neglect."""
        found, name = [], f"{self.variant.label}{under}"
        tracing = f"{name}: tracing its processes ({self.processes}) for hwm stopped it for at least "
        tracing += f"{self.stopped_share or 0:.1%} of its wall time"
        if Watch.TRACED in self.wall_times_s and self.base is not None:
            compared = self._compared(Watch.TRACED)
            found.append(f"{tracing}, so after the first execution hwm had separate executions: {compared}.")
        elif self.is_slowed_down:
            found.append(f"{tracing}.")
        if self.base is Watch.NOTHING:
            others = [watch for watch in (Watch.ALL, Watch.UNTRACED) if watch in self.wall_times_s][-1:]
            found += [f"{name}: under {watch} it took {self._compared(watch)}." for watch in others]
        return found

    def _compared(self, watch: Watch) -> str:
        assert self.base is not None
        walls, others = self.wall_times_s[watch], self.wall_times_s[self.base]
        own, other = median(walls), median(others)
        overlap = "" if min(walls) > max(others) or max(walls) < min(others) else "; the ranges overlap"
        return f"{own / other - 1:+.1%} wall (medians: {own:.3f} s, and {other:.3f} s under {self.base}{overlap})"


def overheads_of(trial: Trial) -> list[Overhead]:
    """Return the overheads of each command and the baseline, under each start."""
    pairs = [(variant, start.name) for variant in trial.plan.variants for start in trial.plan.starts]
    return [_overhead(variant, start, done) for variant, start in pairs if (done := trial.counted(variant, start))]


def _overhead(variant: Variant, start: str, done: Sequence[TrialExecution]) -> Overhead:
    walls: dict[Watch, list[float]] = {}
    shares = []
    for each in done:
        if each.outcome.wall_s is not None:
            walls.setdefault(each.watch, []).append(each.outcome.wall_s)
            if each.outcome.stopped_s is not None and each.outcome.wall_s > 0:
                shares.append(each.outcome.stopped_s / each.outcome.wall_s)
    processes = max(each.process_count for each in done)
    slow = any(is_slowed_down(each.outcome) for each in done)
    return Overhead(variant, start, walls, processes, median(shares) if shares else None, slow)


def wall_grid(overheads: Sequence[Overhead], several_starts: bool) -> Grid:
    """Return the table of the wall times of variants that ran under different watches; it may be empty."""
    titles = ["Run", *(["Start"] if several_starts else []), "Watched by", "Median", "Min", "Max", "n", "Overhead"]
    rows = []
    for each in overheads:
        if each.base is None:
            continue
        label = each.variant.label
        for watch in Watch:
            walls = each.wall_times_s.get(watch)
            if walls is None:
                continue
            ratio = each.ratio(watch)
            start = [each.start] if several_starts else []
            times = [*(f"{value:.3f} s" for value in (median(walls), min(walls), max(walls))), str(len(walls))]
            rows.append([label, *start, watch.value, *times, "-" if ratio is None else f"{ratio:+.1%}"])
            label = ""
    return Grid("Wall time", titles, rows, {"Median", "Min", "Max", "n", "Overhead"})
