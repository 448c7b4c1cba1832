"""`runmem submit`: run a program as a job of the batch system."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runmem.cli.options_after_program import options_after_program
from runmem.cli.program import Module, Script, load_program
from runmem.cli.run import PROGRAM_ARGUMENTS
from runmem.cli.run import command as run_command
from runmem.cli.setting_options import setting_options
from runmem.errors import SettingError
from runmem.settings import Settings, option_name, resolve
from runmem.units import MIB, parse_bytes

if TYPE_CHECKING:
    from runmem.submission import BatchSystem, JobRequest

__all__ = ["command", "parse_exec_time"]

_NOT_IN_JOBS = {  # settings that the batch system decides, or options of the job with another meaning
    "workers", "worker_memory", "scheduler", "scheduler_file", "hosts", "cluster", "remote_python", "ssh_command",
    "env_script", "sequential",
}  # fmt: skip
_SETTINGS = [name for name in map(option_name, fields(Settings)) if name not in _NOT_IN_JOBS]
_RUN_OPTIONS = ("no_summary", "as_module")


def parse_exec_time(text: str) -> int:
    """Convert a job's time limit to seconds: minutes as a whole number, or ``[D-]HH:MM:SS``.

    Raises
    ------
    SettingError
        If it is neither, or zero.
    """
    seconds = 0
    if text.strip().isdecimal():
        seconds = int(text) * 60
    elif match := re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]?\d):([0-5]?\d)", text.strip()):
        days, hours, minutes, rest = (int(part or 0) for part in match.groups())
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    if seconds < 1:
        raise SettingError(f"--exec_time: {text!r} cannot be used: write minutes, such as 90, or HH:MM:SS.")
    return seconds


def _memory(option: str, text: str | None) -> int | None:
    """Convert an amount of memory to bytes; a number without a unit is in MiB, as in PyCOMPSs and Slurm."""
    if text is None:
        return None
    try:
        size = int(text) * MIB if text.strip().isdecimal() else parse_bytes(text)
    except ValueError as error:
        raise SettingError(f"{option}: {error}.") from None
    if size < 100 * MIB:
        raise SettingError(f"{option}: {text!r} is too little: a worker uses some 65MiB before its first task.")
    return size


def _add_run_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add those options of `runmem run` that are not settings and are passed on."""
    same = [p for p in run_command.params if isinstance(p, click.Option) and p.name in _RUN_OPTIONS]
    vars(function).setdefault("__click_params__", [])[:0] = reversed(same)
    return function


@click.command("submit", context_settings=PROGRAM_ARGUMENTS)
@click.option("--num_nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Number of nodes.")
@click.option("--exec_time", metavar="TIME", help="Time limit: minutes, or HH:MM:SS.  [default: the queue's]")
@click.option("--job_name", metavar="NAME", help="Name of the job.  [default: the program's]")
@click.option("--queue", metavar="NAME", help="Queue (Slurm: partition).")
@click.option("--qos", metavar="NAME", help="Quality of service.")
@click.option("--reservation", metavar="NAME", help="Reservation to use.")
@click.option("--project_name", metavar="NAME", help="Project or account to charge.")
@click.option("--constraints", metavar="FEATURES", help="Required features of the nodes.")
@click.option(
    "--job_dependency", metavar="JOB", help="Start after JOB has ended; or Slurm's own form, such as afterok:12."
)
@click.option(
    "--extra_submit_flag", metavar="FLAG", multiple=True, help="A whole sbatch option (--nice=10). Repeatable."
)
@click.option("--pre_env_script", metavar="FILE", help="Shell script to source before --env_script.")
@click.option("--env_script", metavar="FILE", help="Shell script to source before the program and its workers start.")
@click.option("--job_execution_dir", metavar="DIR", help="Folder of the job.  [default: the current folder]")
@click.option(
    "--workers_per_node",
    type=click.IntRange(min=1),
    metavar="N",
    help="Workers, and cores, of each node.  [default: whole nodes, one worker per core]",
)
@click.option(
    "--worker_memory",
    metavar="SIZE",
    help="Memory limit of a worker, such as 2GiB.  [default: an equal share of the node's]",
)
@click.option(
    "--node_memory",
    metavar="SIZE",
    help="Memory of each node, such as 64GiB or 64000 (MiB).  [default: enough for the workers]",
)
@click.option("--wait", is_flag=True, help="Follow the job: its state and output; exit with its exit code.")
@click.option("--dry_run", is_flag=True, help="Print the job script without submitting it.")
@setting_options(without=_NOT_IN_JOBS)
@_add_run_options
@click.argument("program", type=click.Path())
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(program: str, arguments: tuple[str, ...], wait: bool, dry_run: bool, **options: Any) -> None:
    """Submit PROGRAM with its ARGUMENTS as a Slurm job; its tasks run on all nodes of the job.

    The options are those of PyCOMPSs's enqueue_compss. Scheduler and program run on the first node, workers on every
    node; with more than one node all connections use TLS. The exit code of the job is the program's. A job that is
    cancelled or exceeds its time keeps its traces and records. Output goes to runmem-<job>.out and .err.

    \b
    Examples:
      runmem submit --num_nodes 4 --exec_time 30 --python_memory_profile app.py input.csv
      runmem submit --workers_per_node 8 --worker_memory 2GiB --queue long --wait app.py
      runmem submit --num_nodes 2 --dry_run app.py

    With --wait, Ctrl-C asks on a terminal whether to cancel the job; otherwise the job goes on.
    """
    from runmem.submission import BATCH_SYSTEMS

    passed = {name: options[name] for name in (*_SETTINGS, *_RUN_OPTIONS) if options.get(name) not in (None, False)}
    resolve({name: value for name, value in passed.items() if name in _SETTINGS})
    try:
        script = load_program(program, options["as_module"])
    except SyntaxError as error:
        raise SettingError(f"{program}: {error.msg} (line {error.lineno}); nothing was submitted.") from None
    for line in options_after_program(command, script, arguments):
        print(f"runmem: note: {line}", file=sys.stderr)
    job = _job(script, arguments, passed, options)
    system: BatchSystem = BATCH_SYSTEMS["slurm"]()
    text = system.script(job)
    if dry_run:
        click.echo(text, nl=False)
        return
    system.check()
    job_id = system.submit(text)
    out, err = system.outputs(job_id, job.folder)
    print(f"runmem: job {job_id} was submitted; its output goes to {out} and {err.name}", file=sys.stderr)
    if wait:
        sys.exit(_follow(system, job_id, job.folder))
    hints = system.hints(job_id)
    print(f"runmem: {hints['show']} shows its state, {hints['cancel']} cancels it", file=sys.stderr)


def _job(
    program: Script | Module, arguments: tuple[str, ...], passed: dict[str, Any], options: dict[str, Any]
) -> JobRequest:
    from runmem.submission import JobRequest

    here = Path.cwd()
    folder = Path(options["job_execution_dir"] or here).absolute()
    if not folder.is_dir():
        raise SettingError(f"--job_execution_dir: {folder} is not a folder.")
    named = ["num_nodes", "queue", "qos", "reservation", "project_name"]
    named += ["constraints", "job_dependency", "workers_per_node"]
    elsewhere = isinstance(program, Script) and folder != here
    return JobRequest(
        command=(str(Path(program.argument).absolute()) if elsewhere else program.argument, *arguments),
        runmem_options=tuple(_as_option(name, value) for name, value in passed.items()),
        python=os.path.abspath(sys.executable),
        folder=folder,
        name=options["job_name"] or re.sub(r"[^\w.+@:-]", "_", program.name),
        worker_memory_bytes=_memory("--worker_memory", options["worker_memory"]),
        node_memory_bytes=_memory("--node_memory", options["node_memory"]),
        exec_time_s=None if options["exec_time"] is None else parse_exec_time(options["exec_time"]),
        # PyCOMPSs writes # for a space in such a flag; # has no other meaning in a job script.
        extra_submit_flags=tuple(flag.replace("#", " ") for flag in options["extra_submit_flag"]),
        pre_env_script=_script_file("pre_env_script", options["pre_env_script"]),
        env_script=_script_file("env_script", options["env_script"]),
        **{name: options[name] for name in named},
    )


def _script_file(option: str, given: str | None) -> Path | None:
    if given is None:
        return None
    path = Path(given).expanduser().absolute()
    if not path.is_file():
        raise SettingError(f"--{option}: {given!r} is not a file.")
    return path


def _as_option(name: str, value: object) -> str:
    if name == "as_module":
        return "-m"
    return f"--{name}" if value is True else f"--{name}={value}"


def _follow(system: BatchSystem, job_id: str, folder: Path) -> int:
    """Follow a job to its end. On Ctrl-C, cancel it if the user agrees."""
    from runmem.submission.follow import follow

    def report(line: str) -> None:
        print(f"runmem: {line}", file=sys.stderr, flush=True)

    try:
        return follow(system, job_id, folder, sys.stdout.buffer, sys.stderr.buffer, report)
    except KeyboardInterrupt:
        hints = system.hints(job_id)
        if sys.stdin.isatty() and _agrees(f"\nrunmem: cancel job {job_id}? [y/N] "):
            system.cancel(job_id)
            report(f"job {job_id} is cancelled")
        else:
            report(f"job {job_id} goes on; {hints['cancel']} cancels it")
        return 130


def _agrees(question: str) -> bool:
    try:
        print(question, end="", file=sys.stderr, flush=True)
        return input().strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        return False
