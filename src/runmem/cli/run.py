"""`runmem run`: run a program."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any

import click

from runmem.cli.misplaced import misplaced_options
from runmem.cli.program import Module, Script, exit_code_of, load_program, run_program
from runmem.cli.setting_options import setting_options
from runmem.cli.termination import Terminated, terminable
from runmem.cli.tracebacks import alike, print_exception
from runmem.dask_logging import keep_dask_apart, keep_runmem_apart
from runmem.errors import FilePlacementError
from runmem.settings import resolve
from runmem.standard_error import say
from runmem.start_signals import handle_signals_as_python

if TYPE_CHECKING:
    from runmem.execution.run import Run

__all__ = ["command", "summarise"]

_PASS_ON = {"allow_interspersed_args": False, "help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.command("run", context_settings=_PASS_ON)
@setting_options()
@click.option("--no_summary", is_flag=True, help="Do not print the table at the end.")
@click.option("-m", "as_module", is_flag=True, help="PROGRAM is a module or a package by its name, as for `python -m`.")
@click.argument("program", type=click.Path())
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(program: str, arguments: tuple[str, ...], no_summary: bool, as_module: bool, **options: Any) -> None:
    """Run PROGRAM with its ARGUMENTS; calls of its @task functions run in parallel on a Dask cluster.

    Without --scheduler, --hosts or --cluster it is started on this machine. It ends with the program. The exit code is
    that of the program, 128 + the signal when one ended it, and 2 when runmem could not start it.

    \b
    Examples:
      runmem app.py input.csv
      runmem -m package.analysis input.csv
      runmem --python_memory_profile --workers=4 app.py
      runmem --hosts node1,node2 app.py
      runmem --scheduler tls://10.0.0.5:8786 --tls_ca ca.pem --tls_cert me.pem --tls_key me.key app.py

    Every option can also be set in the environment (RUNMEM_WORKERS=4) or in Dask's configuration (runmem: workers: 4).
    The traces go to the folder you are in, or to COMPSS_WORKER_PROFILE_PATH, which PyCOMPSs has too.
    """
    settings = resolve(options)
    if settings.sequential and settings.task_timeout_s is not None:
        say("runmem: note: with --sequential tasks run in the program's own process, and --task_timeout ends none.")
    try:
        script = load_program(program, as_module)
    except (SyntaxError, MemoryError, RecursionError) as error:  # as Python says it
        say("".join(_syntax_error(error)).rstrip("\n"))
        sys.exit(1)
    for line in misplaced_options(command, script, arguments):
        say(f"runmem: note: {line}")
    if settings.env_script is not None:
        from runmem.clusters.local import put_in_force

        put_in_force(settings.env_script)
    from runmem.dashboard.terminal import terminal_view
    from runmem.execution.run import Run
    from runmem.execution.signals import ignore_signals
    from runmem.pycompss.install import install

    install()
    keep_dask_apart()
    keep_runmem_apart()
    view = terminal_view(sys.stderr)
    prepare = ["runmem.pycompss.install:install"]
    run = Run(settings, script.name, sys.argv, [view], prepare, script.import_folder)
    handle_signals_as_python()
    with terminable():
        try:
            # Of a KeyboardInterrupt in its imports Python would make its own end of the process, even if it is caught.
            with terminable(Signals.SIGINT):
                run.start()
        except (Terminated, KeyboardInterrupt) as request:
            ignore_signals()
            view.close()
            code = exit_code_of(request)
            say(f"runmem: ended by {Signals(code - 128).name} before the program began")
            sys.exit(code)
        try:
            exit_code, unseen = _execute(run, script, arguments)
        finally:
            view.close()
    _tell_end(run, unseen, no_summary)
    ignore_signals()
    sys.exit(exit_code or (1 if unseen else 0))


def _tell_end(run: Run, unseen: list[BaseException], no_summary: bool) -> None:
    """Say what the program could not: which calls its end cut off, which tasks failed that it did not wait for."""
    whole = run.settings.log_level == "debug"
    if run.cut_off is not None and (run.cut_off.cancelled or run.cut_off.not_begun):
        say(f"runmem: {run.cut_off}")
    for unseen_error, more in alike(unseen):
        misplaced = issubclass(type(unseen_error), FilePlacementError)
        what = "a file is not in its place" if misplaced else "a task failed and the program did not wait for it"
        say(f"runmem: {what}:")
        print_exception(unseen_error, whole)
        if more:
            say(f"runmem: and {more} more like it")
    if no_summary:
        _say_lost_output(run)
    elif run.program.calls or run.settings.python_memory_profile:
        summarise(run)


def _execute(run: Run, program: Script | Module, arguments: tuple[str, ...]) -> tuple[int, list[BaseException]]:
    """Run the program and end the run; return the exit code and the errors of tasks that nobody has seen."""
    from runmem.execution.ending import reason_of_end

    master = os.getpid()
    try:
        ended = run_program(program, arguments, run.settings.log_level == "debug")
        if os.getpid() != master:  # a child that the program forked and that came to the program's end
            os._exit(ended.exit_code)
        if ended.by_signal and not run.has_open_calls:
            say(f"runmem: {reason_of_end(ended.exit_code)}")
        return ended.exit_code, run.finish(ended.exit_code, complete=ended.orderly, final=True)
    except (SystemExit, KeyboardInterrupt) as request:
        # A signal between the program's end and that of its last task: those that still run are given up.
        exit_code = exit_code_of(request)
    while True:
        try:
            return exit_code, run.finish(exit_code, complete=False, final=True)
        except (Terminated, KeyboardInterrupt):  # one more, before the end of the run had begun to hold them back
            continue


def _syntax_error(error: BaseException) -> list[str]:
    import traceback

    return traceback.format_exception_only(error)


def summarise(run: Run) -> None:
    """Print the table of a run; a mistake in it must not cost the program its exit code."""
    if not run.settings.python_memory_profile:
        _say_lost_output(run)  # which the table has, too
        calls = run.program.calls
        say(
            f"runmem: {calls} task call{'s' * (calls != 1)}; memory was not measured (--python_memory_profile does). "
            f"The run is in {_shown(run.directory.root)}"
        )
        return
    try:
        from rich.console import Console

        from runmem.reports.summary import RunSummary
        from runmem.store.run import read_run

        if sys.stderr is None:
            return
        console = Console(stderr=True)
        with console.capture() as captured:
            RunSummary.from_run(read_run(run.directory.root)).render(console)
        say(captured.get().removesuffix("\n"))
    except Exception as error:
        say(f"runmem: the summary could not be made ({type(error).__name__}: {error}); the run is in "
            f"{_shown(run.directory.root)}")  # fmt: skip


def _say_lost_output(run: Run) -> None:
    if (lost := run.lost_output()) is not None:
        say(f"runmem: {lost}")


def _shown(path: Path) -> str:
    """Return a path relative to the current folder where it lies below it."""
    try:
        here = Path.cwd()
    except OSError:  # it has gone
        return str(path)
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
