"""A trial: execute all variants in random order, each under all methods that can measure it."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runmem.trials.kinds import ProgramKind, program_kind
from runmem.trials.methods import Method, MethodColumn, Reading, columns_of
from runmem.trials.outcome import CommandOutcome, Site
from runmem.trials.starts import Start
from runmem.trials.starts.contract import JobOptions
from runmem.trials.truth import Truth
from runmem.trials.variants import ControlRequest, Variant, control_variant
from runmem.trials.watch import Watch, is_slowed_down

__all__ = ["TrialExecution", "Plan", "Trial"]

_TAIL_BYTES = 4000


@dataclass(frozen=True, slots=True)
class TrialExecution:
    """One execution with the readings of every method.

    Attributes
    ----------
    variant : Variant
    start : str
        Name of the launcher that started the command.
    repeat : int
        From 1; 0 for a warm-up.
    started_s : float
        Seconds since the epoch.
    outcome : CommandOutcome
    readings : dict of str to Reading
        Name of the column to its reading.
    truth : Truth or None
        The true memory peaks that a control program reports about itself; None for other commands.
    output : str
        The end of its output, if it failed.
    watch : Watch
        The set of methods that measured it.
    process_count : int
        Processes of the command; 0 if they were not traced.
    """

    variant: Variant
    start: str
    repeat: int
    started_s: float
    outcome: CommandOutcome
    readings: dict[str, Reading]
    truth: Truth | None = None
    output: str = ""
    watch: Watch = Watch.ALL
    process_count: int = 0

    @property
    def counts(self) -> bool:
        """Whether the statistics include it: it is not a warm-up and did not fail."""
        return self.repeat > 0 and self.outcome.exit_code == 0


@dataclass(frozen=True)
class Plan:
    """The settings of a trial.

    Attributes
    ----------
    variants : list of Variant
        Commands, and the baseline.
    controls : list of ControlRequest or None
        If None, they are chosen after the first executions.
    methods : list of method classes
    starts : list of start classes
    repeat, warmup : int
    seed : int
        Seed of the random order.
    interval_s : float
    keep_going : bool
    control_memory_bytes : int
        Memory of this machine, which limits the size of automatic controls.
    job : JobOptions
        For starts that submit jobs.
    overhead : bool
        Whether every repetition also runs the commands without any method.
    """

    variants: list[Variant]
    controls: list[ControlRequest] | None
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
    """A trial, in progress or finished; if `run` is interrupted, the executions so far are kept.

    Attributes
    ----------
    plan : Plan
    unavailable : dict of str to str
        Reason why each unavailable method cannot be used on this machine, by method name.
    executions : list of TrialExecution
    kind : ProgramKind or None
        The kind of program that the command is.
    stopped : str or None
        Why the trial ended before its plan was finished.
    """

    plan: Plan
    unavailable: dict[str, str] = field(default_factory=dict)
    executions: list[TrialExecution] = field(default_factory=list)
    kind: ProgramKind | None = None
    stopped: str | None = None
    _slowed_down: set[tuple[str, str]] = field(default_factory=set)  # labels and starts
    _say: Callable[[str], None] = field(default=lambda _: None, repr=False)

    @property
    def methods(self) -> list[type[Method]]:
        """The methods that can be used on this machine."""
        return [method for method in self.plan.methods if method.name not in self.unavailable]

    @property
    def columns(self) -> list[MethodColumn]:
        """The columns of the methods that can be used on this machine."""
        return columns_of(self.methods)

    def columns_under(self, start: type[Start]) -> list[MethodColumn]:
        """Return the columns that can be measured under a start."""
        return columns_of(method for method in self.methods if start.name in method.starts)

    def counted(self, variant: Variant, start: str) -> list[TrialExecution]:
        """Return the executions of a variant under a start that the statistics include."""
        return [each for each in self.executions if each.counts and each.variant == variant and each.start == start]

    @property
    def failed(self) -> list[TrialExecution]:
        """The failed executions of the command and the baseline."""
        return [each for each in self.executions if each.variant.role != "control" and each.outcome.exit_code != 0]

    @property
    def exit_code(self) -> int:
        """The exit code of the first failed execution, or 0."""
        return self.failed[0].outcome.exit_code if self.failed else 0

    def run(
        self, report: Callable[[TrialExecution], None] = lambda _: None, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """Carry out the plan; call `report` after each execution, and `say` with lines for the user.

        Raises StartError if a command cannot be started. Raises KeyboardInterrupt on Ctrl-C, after the command has
        ended.
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
                if not self._round(order, [*self.plan.variants, *controls], max(0, number + 1), folder, report):
                    return
                if first:
                    self.kind = program_kind(self._of_commands(), self.columns, self.plan.interval_s)
                    controls = self._controls()
                    if not self._round(order, controls, 1, folder, report):
                        return
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _folder(self) -> Path:
        """Return a new folder; for jobs it is in the working directory, so that the nodes see it."""
        is_shared = any(start.shares_folder for start in self.plan.starts)
        return Path(tempfile.mkdtemp(prefix="runmem-trial-", dir=Path.cwd() if is_shared else None))

    def _round(
        self,
        order: random.Random,
        variants: Sequence[Variant],
        repeat: int,
        folder: Path,
        report: Callable[[TrialExecution], None],
    ) -> bool:
        """Execute each variant once per launcher and set of methods, in random order; return False to end the trial."""
        pairs = [(variant, start) for variant in variants for start in self.plan.starts]
        cells = [(variant, start, watch) for variant, start in pairs for watch in self._watches(variant, start)]
        order.shuffle(cells)
        for variant, start, watch in cells:
            site = Site(folder / str(len(self.executions)), self.plan.interval_s, variant.cpus)
            site.folder.mkdir(mode=0o700)
            done = self._execute(variant, start(self.plan.job, self._say), repeat, site, watch)
            shutil.rmtree(site.folder, ignore_errors=True)
            self.executions.append(done)
            if watch is Watch.ALL and is_slowed_down(done.outcome):
                self._slowed_down.add((variant.label, start.name))
            report(done)
            if done.outcome.exit_code and variant.role != "control" and not self.plan.keep_going:
                self.stopped = f"{variant.label} failed with exit code {done.outcome.exit_code}"
                return False
        return True

    def _watches(self, variant: Variant, start: type[Start]) -> list[Watch]:
        """Return the sets of methods to measure a variant with in this round; each needs one execution."""
        able = [method for method in self.methods if start.name in method.starts]
        is_split = (variant.label, start.name) in self._slowed_down and not all(method.traces for method in able)
        found = [Watch.UNTRACED, Watch.TRACED] if is_split else [Watch.ALL]
        return [*found, Watch.NOTHING] if self.plan.overhead and variant.role != "control" else found

    def _execute(self, variant: Variant, start: Start, repeat: int, site: Site, watch: Watch) -> TrialExecution:
        reasons: dict[str, str] = {}
        methods = []
        every = watch.methods(self.methods)
        for made in (method() for method in every):
            if start.name not in made.starts:
                reasons[made.name] = f"cannot measure commands started by {start.name}"
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
        outcome = CommandOutcome(-1)
        try:
            outcome = start.run(command, methods, site)
        finally:
            readings = {column.name: Reading(column.name, None) for column in self.columns}
            readings |= _collected(methods, outcome, reasons, every)
        truth = Truth.from_json(json.loads(truth_file.read_text())) if truth_file.exists() else None
        output = _tail(site) if outcome.exit_code else ""
        count = len(outcome.processes)
        return TrialExecution(variant, start.name, repeat, started_s, outcome, readings, truth, output, watch, count)

    def _of_commands(self) -> list[tuple[CommandOutcome, dict[str, Reading]]]:
        return [
            (each.outcome, each.readings)
            for each in self.executions
            if each.counts and each.variant.role == "command" and each.watch is Watch.ALL
        ]

    def _controls(self) -> list[Variant]:
        requests = self.plan.controls
        if requests is None:
            requests = [ControlRequest(pattern) for pattern in (self.kind.patterns if self.kind is not None else ())]
        sizes = [
            reading.size_bytes
            for _, readings in self._of_commands()
            for reading in readings.values()
            if reading.size_bytes is not None and reading.column in ("hwm", "time", "rusage", "sacct MaxRSS")
        ]
        size = max(sizes, default=None)
        return [control_variant(request, size, self.plan.control_memory_bytes) for request in requests]


def _collected(
    methods: Sequence[Method], outcome: CommandOutcome, reasons: dict[str, str], every: Sequence[type[Method]]
) -> dict[str, Reading]:
    """Return the readings of all methods by column, with a reason in place of the value if a method failed."""
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
    """Return the ends of the command's standard output and error."""
    parts = []
    for name, path in (("standard output", site.stdout), ("standard error", site.stderr)):
        try:
            text = path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
        except OSError:
            continue
        if text:
            parts.append(f"--- {name} ---\n{text}")
    return "\n".join(parts)
