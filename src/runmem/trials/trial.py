"""A trial: the executions of all variants in random order, each under all methods that can watch it."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runmem.trials.kinds import Kind, kind_of
from runmem.trials.methods import Column, Method, Reading, columns_of
from runmem.trials.outcome import Outcome, Site
from runmem.trials.starts import Start
from runmem.trials.starts.contract import JobOptions
from runmem.trials.truth import Truth
from runmem.trials.variants import ControlWish, Variant, control_variant
from runmem.trials.watch import Watch, is_disturbed

__all__ = ["Execution", "Plan", "Trial"]

_TAIL_BYTES = 4000


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution and what every method told of it.

    Attributes
    ----------
    variant : Variant
    start : str
        Name of the way it was started.
    repeat : int
        From 1; 0 for a warm-up.
    started_s : float
        Seconds since the epoch.
    outcome : Outcome
    readings : dict of str to Reading
        By the name of the column.
    truth : Truth or None
        Of a control.
    output : str
        The end of what it wrote, where it failed.
    watch : Watch
        Which methods took part.
    process_count : int
        Of the command; 0 where they were not followed.
    """

    variant: Variant
    start: str
    repeat: int
    started_s: float
    outcome: Outcome
    readings: dict[str, Reading]
    truth: Truth | None = None
    output: str = ""
    watch: Watch = Watch.ALL
    process_count: int = 0

    @property
    def counts(self) -> bool:
        """Whether it goes into the statistics: no warm-up, and it did not fail."""
        return self.repeat > 0 and self.outcome.exit_code == 0


@dataclass(frozen=True)
class Plan:
    """What a trial is to do.

    Attributes
    ----------
    variants : list of Variant
        Commands, and the baseline.
    controls : list of ControlWish or None
        None: chosen by what the first executions look like.
    methods : list of method classes
    starts : list of start classes
    repeat, warmup : int
    seed : int
        Of the order.
    interval_s : float
    keep_going : bool
    control_memory_bytes : int
        Memory of this machine, which bounds the size of automatic controls.
    job : JobOptions
        For the starts that are jobs.
    overhead : bool
        Whether the commands run without any method too, in each repetition.
    """

    variants: list[Variant]
    controls: list[ControlWish] | None
    methods: list[type[Method]]
    starts: list[type[Start]]
    repeat: int = 5
    warmup: int = 0
    seed: int = 0
    interval_s: float = 0.1
    keep_going: bool = False
    control_memory_bytes: int = 0
    job: JobOptions = field(default_factory=JobOptions)
    overhead: bool = False


@dataclass
class Trial:
    """A trial under way or done: call `run`, also in the middle of which everything found so far can be told.

    Attributes
    ----------
    plan : Plan
    unavailable : dict of str to str
        Method to why it is missing on this machine.
    executions : list of Execution
    kind : Kind or None
        What kind of program the command is.
    stopped : str or None
        Why the trial ended before its plan was done.
    """

    plan: Plan
    unavailable: dict[str, str] = field(default_factory=dict)
    executions: list[Execution] = field(default_factory=list)
    kind: Kind | None = None
    stopped: str | None = None
    _apart: set[tuple[str, str]] = field(default_factory=set)  # label and start of what tracing disturbs
    _say: Callable[[str], None] = field(default=lambda _: None, repr=False)

    @property
    def methods(self) -> list[type[Method]]:
        """The methods that can be used here."""
        return [method for method in self.plan.methods if method.name not in self.unavailable]

    @property
    def columns(self) -> list[Column]:
        """The columns of the methods that can be used here."""
        return columns_of(self.methods)

    @property
    def failed(self) -> list[Execution]:
        """Executions of the command or the baseline that failed."""
        return [each for each in self.executions if each.variant.role != "control" and each.outcome.exit_code != 0]

    @property
    def exit_code(self) -> int:
        """The command's: that of its first failure, or 0."""
        return self.failed[0].outcome.exit_code if self.failed else 0

    def run(
        self, tell: Callable[[Execution], None] = lambda _: None, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """Do what is planned; `tell` is called after each execution, `say` with a line for a person on the way.

        Raises
        ------
        StartError
            If a command cannot be started at all.
        KeyboardInterrupt
            On Ctrl-C; the command has ended, and what is there can be told.
        """
        for method in self.plan.methods:
            if (reason := method().available()) is not None:
                self.unavailable[method.name] = reason
        self._say = say
        order = random.Random(self.plan.seed)
        controls: list[Variant] = []
        folder = self._folder()
        try:
            for number in range(-self.plan.warmup, self.plan.repeat):
                first = number == 0
                if not self._round(order, [*self.plan.variants, *controls], max(0, number + 1), folder, tell):
                    return
                if first:
                    self.kind = kind_of(self._of_commands(), self.columns, self.plan.interval_s)
                    controls = self._controls()
                    if not self._round(order, controls, 1, folder, tell):
                        return
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _folder(self) -> Path:
        """Return a new folder: with jobs in the current one, which the nodes see too."""
        if not any(start.shares_folder for start in self.plan.starts):
            return Path(tempfile.mkdtemp(prefix="runmem-trial-"))
        return Path(tempfile.mkdtemp(prefix="runmem-trial-", dir=Path.cwd()))

    def _round(
        self, order: random.Random, variants: Sequence[Variant], repeat: int, folder: Path,
        tell: Callable[[Execution], None],
    ) -> bool:  # fmt: skip
        """Execute each variant once by each start and watch, in random order; False when the trial is to end."""
        cells = [(variant, start, watch) for variant in variants for start in self.plan.starts
                 for watch in self._watches(variant, start)]  # fmt: skip
        order.shuffle(cells)
        for variant, start, watch in cells:
            site = Site(folder / str(len(self.executions)), self.plan.interval_s, variant.cpus)
            site.folder.mkdir(mode=0o700)
            done = self._execute(variant, start(self.plan.job, self._say), repeat, site, watch)
            shutil.rmtree(site.folder, ignore_errors=True)
            self.executions.append(done)
            if watch is Watch.ALL and is_disturbed(done.outcome):
                self._apart.add((variant.label, start.name))
            tell(done)
            if done.outcome.exit_code and variant.role != "control" and not self.plan.keep_going:
                self.stopped = f"{variant.label} failed with exit code {done.outcome.exit_code}"
                return False
        return True

    def _watches(self, variant: Variant, start: type[Start]) -> list[Watch]:
        """Return what is to watch a variant in this round: an execution each."""
        able = [method for method in self.methods if start.name in method.starts]
        is_apart = (variant.label, start.name) in self._apart and not all(method.traces for method in able)
        found = [Watch.UNTRACED, Watch.TRACED] if is_apart else [Watch.ALL]
        return [*found, Watch.NOTHING] if self.plan.overhead and variant.role != "control" else found

    def _execute(self, variant: Variant, start: Start, repeat: int, site: Site, watch: Watch) -> Execution:
        reasons: dict[str, str] = {}
        methods = []
        every = watch.methods(self.methods)
        for made in (method() for method in every):
            if start.name not in made.starts:
                reasons[made.name] = f"cannot measure what was started by {start.name}"
                continue
            try:
                made.prepare(site)
                methods.append(made)
            except (OSError, ValueError, RuntimeError) as error:
                reasons[made.name] = str(error)
        command = list(variant.command)
        truth_file = site.folder / "truth"
        if variant.role == "control":
            command += ["--truth", str(truth_file), "--folder", str(site.folder)]
        started_s = time.time()
        outcome = Outcome(-1)
        try:
            outcome = start.run(command, methods, site)
        finally:
            readings = {column.name: Reading(column.name, None) for column in self.columns}
            readings |= _collected(methods, outcome, reasons, every)
        truth = Truth.from_json(json.loads(truth_file.read_text())) if truth_file.exists() else None
        output = _tail(site) if outcome.exit_code else ""
        count = len(outcome.processes)
        return Execution(variant, start.name, repeat, started_s, outcome, readings, truth, output, watch, count)

    def _of_commands(self) -> list[tuple[Outcome, dict[str, Reading]]]:
        return [
            (each.outcome, each.readings)
            for each in self.executions
            if each.counts and each.variant.role == "command" and each.watch is Watch.ALL
        ]

    def _controls(self) -> list[Variant]:
        wishes = self.plan.controls
        if wishes is None:
            wishes = [ControlWish(pattern) for pattern in (self.kind.patterns if self.kind is not None else ())]
        sizes = [
            reading.size_bytes
            for _, readings in self._of_commands()
            for reading in readings.values()
            if reading.size_bytes is not None and reading.column in ("hwm", "time", "rusage", "sacct MaxRSS")
        ]
        return [control_variant(wish, max(sizes, default=None), self.plan.control_memory_bytes) for wish in wishes]


def _collected(
    methods: Sequence[Method], outcome: Outcome, reasons: dict[str, str], every: Sequence[type[Method]]
) -> dict[str, Reading]:
    """Return the readings of all methods by column; a method that fails has a reason in place of its value."""
    found = {}
    for method in methods:
        try:
            readings = method.collect(outcome)
        except (OSError, ValueError, RuntimeError) as error:
            readings = method.missing(str(error))
        if method.watches and outcome.unseen is not None:
            readings = method.missing(outcome.unseen)
        elif method.name in outcome.reasons and all(reading.size_bytes is None for reading in readings):
            readings = method.missing(outcome.reasons[method.name])
        found.update({reading.column: reading for reading in readings})
    for made in every:
        if made.name in reasons:
            found.update({reading.column: reading for reading in made().missing(reasons[made.name])})
    return found


def _tail(site: Site) -> str:
    """Return the ends of what the command wrote."""
    parts = []
    for name, path in (("standard output", site.stdout), ("standard error", site.stderr)):
        try:
            text = path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            continue
        if text:
            parts.append(f"--- {name} ---\n{text}")
    return "\n".join(parts)
