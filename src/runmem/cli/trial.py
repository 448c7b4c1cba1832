"""`runmem trial`: measure one command with several methods."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runmem.cli.program import exit_code_of
from runmem.cli.termination import Terminated, raise_on_signals
from runmem.errors import RunmemError, SettingError

if TYPE_CHECKING:
    from runmem.trials.methods import Method
    from runmem.trials.starts.contract import JobOptions
    from runmem.trials.trial import Plan, Trial, TrialExecution

__all__ = ["TrialError", "command"]

_CONSOLE_WIDTH = 200  # where the output is no terminal


class TrialError(RunmemError):
    """A command could not be started."""


@click.command("trial", context_settings={"ignore_unknown_options": False})
@click.option(
    "--methods",
    default="",
    metavar="A,B",
    help="Methods: hwm, tree, pss, cgroup, time, rusage, top, mprof, sacct, sstat.  [default: all suitable ones]",
)
@click.option(
    "--start",
    "starts",
    default="local",
    metavar="A,B",
    show_default=True,
    help="Ways to start the command: local, srun, sbatch.",
)
@click.option("--queue", metavar="NAME", help="Partition for srun and sbatch.")
@click.option(
    "--extra_submit_flag",
    "flags",
    multiple=True,
    metavar="FLAG",
    help="Another option for srun and sbatch, such as --extra_submit_flag=--mem=2G. Repeatable.",
)
@click.option(
    "--job_wait",
    default=600.0,
    type=click.FloatRange(min=1),
    show_default=True,
    metavar="SECONDS",
    help="Maximum time of a job in the queue.",
)
@click.option("--repeat", default=5, type=click.IntRange(min=1), show_default=True, help="Executions of each command.")
@click.option(
    "--warmup", default=0, type=click.IntRange(min=0), show_default=True, help="Executions before these, not counted."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the random order.")
@click.option("--interval", default=0.1, show_default=True, metavar="SECONDS", help="Time between samples.")
@click.option(
    "--control",
    "controls",
    multiple=True,
    metavar="PATTERN[:SIZE]",
    help="Control program with known memory: one, parallel, turn, spike, fork, cache, freed. Repeatable. "
    "auto (the default): those similar to the command. none: no control.",
)
@click.option("--sweep", "sweeps", multiple=True, metavar="NAME=A,B", help="Values for {NAME} in the command.")
@click.option("--cores", default="", metavar="1,2", help="Numbers of processors to run the command on.")
@click.option("--baseline", metavar="COMMAND", help="A command to compare with, as one word.")
@click.option("--overhead", is_flag=True, help="Run the command without any method too, and compare the wall times.")
@click.option("--keep-going", is_flag=True, help="Continue after a failed execution.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Write JSON, CSV, Markdown and figures to FOLDER.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON: bytes and seconds.")
@click.argument("words", nargs=-1, required=True, metavar="-- COMMAND...", type=click.UNPROCESSED)
def command(
    words: tuple[str, ...],
    starts: str,
    queue: str | None,
    flags: tuple[str, ...],
    job_wait: float,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Measure the memory of COMMAND with several methods at once, and report which ones to trust.

    All methods measure the same execution. Control programs with known memory run as well, which gives the error of
    each method. The command has no input, and its output is shown only if it fails.

    \b
    Examples:
      runmem trial -- python app.py input.csv
      runmem trial --sweep visit=1,2 --sweep ccd=1,2,4 --output trial1 -- process --id visit={visit} ccd={ccd}
      runmem trial --methods hwm,tree,cgroup --control parallel:200MiB --repeat 3 -- make -j4
      runmem trial --start local,srun,sbatch --queue debug -- python app.py input.csv

    The exit code is that of the first failed execution, or 0; 128 + the signal if a signal ended it.
    """  # noqa: D301
    from runmem.trials.provenance import provenance
    from runmem.trials.report.files import claim_folder

    plan = _plan(words, starts, _job(queue, flags, job_wait, starts), **options)
    if output is not None:
        claim_folder(output, plan.variants)
    known = provenance() | {"command_line": shlex.join(["runmem", *sys.argv[1:]])}
    trial, code = _run(plan)
    _show(trial, known, output, as_json)
    return code or trial.exit_code


def _plan(
    words: tuple[str, ...],
    starts: str,
    job: JobOptions,
    *,
    methods: str,
    repeat: int,
    warmup: int,
    seed: int,
    interval: float,
    controls: tuple[str, ...],
    sweeps: tuple[str, ...],
    cores: str,
    baseline: str | None,
    overhead: bool,
    keep_going: bool,
) -> Plan:
    """Check the options and make a plan of the executions."""
    from runmem.memory.limits import memory_limit
    from runmem.trials.starts import starts_named
    from runmem.trials.trial import Plan
    from runmem.trials.variants import Variant, check_program, control_requests, parse_sweeps, variants_of

    if not 0.01 <= interval <= 3600:
        raise SettingError(f"--interval {interval}: expected a number of seconds from 0.01 to 3600")
    variants = variants_of(words, parse_sweeps(sweeps), _counts(cores))
    if baseline is not None:
        split = _split(baseline)
        check_program(split)
        variants.append(Variant("baseline", tuple(split)))
    ways = starts_named(_listed(starts), job)
    chosen = _methods_for(_listed(methods), [way.name for way in ways])
    return Plan(
        variants,
        control_requests(controls),
        chosen,
        ways,
        repeat,
        warmup,
        seed,
        interval,
        keep_going,
        memory_limit().limit_bytes,
        job,
        overhead,
    )


def _methods_for(names: list[str], starts: list[str]) -> list[type[Method]]:
    """Return the named methods, or all that can measure one of the starts."""
    from runmem.trials.methods import METHODS, methods_named

    if not names:
        return [method for method in METHODS.values() if method.starts & set(starts)]
    chosen = methods_named(names)
    for method in chosen:
        if not method.starts & set(starts):
            raise SettingError(
                f"--methods {method.name}: this method needs --start {' or '.join(sorted(method.starts))}, and --start "
                f"is {','.join(starts)}"
            )
    return chosen


def _job(queue: str | None, flags: tuple[str, ...], wait_s: float, starts: str) -> JobOptions:
    from runmem.slurm.flags import parse_flag
    from runmem.trials.starts.contract import JobOptions

    if (queue is not None or flags) and _listed(starts) == ["local"]:
        raise SettingError("--queue and --extra_submit_flag are for jobs: add --start srun or --start sbatch")
    return JobOptions(queue, tuple(parse_flag(flag) for flag in flags), wait_s)


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise SettingError(f"--baseline {text}: {error}") from None


def _counts(text: str) -> list[int]:
    try:
        counts = [int(word) for word in _listed(text)]
    except ValueError:
        raise SettingError(f"--cores {text}: expected numbers of processors, such as --cores 1,2") from None
    if len(set(counts)) < len(counts):
        raise SettingError(f"--cores {text}: a number is given twice")
    return counts


def _run(plan: Plan) -> tuple[Trial, int]:
    """Run the trial; return it with 0 or the exit code of an interruption."""
    from runmem.trials.starts.contract import StartError
    from runmem.trials.trial import Trial

    trial, code = Trial(plan), 0
    try:
        with raise_on_signals():
            progress = _Progress()
            trial.run(progress, progress.say)
    except KeyboardInterrupt:
        trial.stopped, code = "interrupted", 130
    except Terminated as request:
        code = exit_code_of(request)
        trial.stopped = f"ended by {signal.Signals(code - 128).name}"
    except StartError as error:
        if not trial.executions:
            raise TrialError(str(error)) from error
        trial.stopped, code = str(error), TrialError.exit_code
    return trial, code


class _Progress:
    """Reports executions on standard error; on a terminal each one replaces the line of the one before."""

    def __init__(self) -> None:
        self._count = 0
        self._terminal = sys.stderr.isatty()

    def __call__(self, done: TrialExecution) -> None:
        self._count += 1
        what = "warm-up" if done.repeat == 0 else f"repeat {done.repeat}"
        if done.outcome.exit_code and done.output:
            click.echo(f"{done.variant.label}: exit code {done.outcome.exit_code}\n{done.output}", err=True)
        elif self._terminal:
            click.echo(f"\r\x1b[Kexecution {self._count}: {done.variant.label}, {what}", err=True, nl=False)

    def say(self, line: str) -> None:
        """Print a line that is not replaced."""
        start = "\r\x1b[K" if self._terminal else ""
        click.echo(f"{start}runmem trial: {line}", err=True)


def _show(trial: Trial, known: dict[str, Any], output: Path | None, as_json: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    from runmem.trials.report.files import document, write_folder
    from runmem.trials.report.results import results_of

    results = results_of(trial)
    is_counted = any(each.counts for each in trial.executions)
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    if as_json:
        click.echo(json.dumps(document(results, known), indent=1))
    elif is_counted or not trial.failed:  # else there is nothing in the tables
        console = Console(highlight=False, width=None if sys.stdout.isatty() else _CONSOLE_WIDTH)
        for grid in results.grids():
            for line, style in grid.lines(console.width if sys.stdout.isatty() else None):
                console.print(Text(line, style=style), soft_wrap=True)
            console.print()
        for sentence in results.sentences():
            console.print(sentence, markup=False)
    for each in trial.failed:
        click.echo(
            f"{each.variant.label}, repeat {each.repeat}: failed with exit code {each.outcome.exit_code}, not counted",
            err=True,
        )
    if trial.stopped is not None:
        hint = " (use --keep-going to continue after a failure)" if trial.failed else ""
        results_so_far = "; these are the results up to then" if is_counted else ""
        click.echo(f"runmem trial: {trial.stopped}{results_so_far}{hint}", err=True)
    if output is not None:
        written = write_folder(results, known, output)
        click.echo(f"written: {', '.join(str(path) for path in written)}", err=as_json)
