"""`runmem run`: run a program."""

from __future__ import annotations

import os
import sys
from signal import Signals
from typing import TYPE_CHECKING, Any

import click

from runmem.cli.compss_options import compss_options, link_run, translated_options
from runmem.cli.options_after_program import options_after_program
from runmem.cli.program import Module, Script, exit_code_of, load_program, run_program
from runmem.cli.setting_options import setting_options
from runmem.cli.summarise import relative, summarise_run
from runmem.cli.termination import Terminated, raise_on_signals
from runmem.cli.tracebacks import group_equal, print_exception
from runmem.collection.task_counts import TaskCounts
from runmem.dask_logging import isolate_dask_log, isolate_runmem_log
from runmem.errors import FilePlacementError
from runmem.settings import resolve
from runmem.standard_error import say
from runmem.start_signals import restore_python_signals
from runmem.table import terminal_width

if TYPE_CHECKING:
    from runmem.execution.run import Run

__all__ = ["PROGRAM_ARGUMENTS", "command", "summarise"]

PROGRAM_ARGUMENTS = {"allow_interspersed_args": False, "help_option_names": ["-h", "--help"], "max_content_width": 100}
"""Context settings of a command that passes the arguments after the program to the program."""


@click.command("run", context_settings=PROGRAM_ARGUMENTS)
@setting_options()
@compss_options
@click.option("--no_summary", is_flag=True, help="Do not print the table at the end.")
@click.option(
    "--measure_only",
    "--measure-only",
    "measure_only",
    is_flag=True,
    help="PROGRAM uses Dask by itself: run it as it is, and measure all tasks of the clusters that it connects to.",
)
@click.option("-m", "as_module", is_flag=True, help="PROGRAM is the name of a module or a package, as for `python -m`.")
@click.argument("program", type=click.Path())
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(
    program: str, arguments: tuple[str, ...], no_summary: bool, measure_only: bool, as_module: bool, **options: Any
) -> None:
    """Run PROGRAM with its ARGUMENTS; calls of its @task functions run in parallel on a Dask cluster.

    Without --scheduler, --hosts or --cluster, runmem starts a cluster on this machine for the time of the program. The
    exit code is the program's, 128 + the signal if a signal ended it, and 2 if runmem could not start it.

    \b
    Examples:
      runmem app.py input.csv
      runmem -m package.analysis input.csv
      runmem --python_memory_profile --workers=4 app.py
      runmem --hosts node1,node2 app.py
      runmem --measure-only dask_app.py
      runmem --scheduler tls://10.0.0.5:8786 --tls_ca ca.pem --tls_cert me.pem --tls_key me.key app.py

    Every option can also be set in the environment (RUNMEM_WORKERS=4) or in Dask's configuration (runmem: workers: 4).
    The traces go to the current folder, or to COMPSS_WORKER_PROFILE_PATH, as in PyCOMPSs.
    """
    counts = TaskCounts() if options["summary"] else None
    given = translated_options(options)
    settings = resolve(given)
    if settings.sequential and settings.task_timeout_s is not None:
        say("runmem: note: --task_timeout has no effect with --sequential: tasks run in the program's process.")
    try:
        script = load_program(program, as_module)
    except (SyntaxError, MemoryError, RecursionError) as error:
        say("".join(_syntax_error(error)).rstrip("\n"))
        sys.exit(1)
    for line in options_after_program(command, script, arguments):
        say(f"runmem: note: {line}")
    if measure_only:
        from runmem.cli.measure_only import run_measured

        run_measured(script, arguments, given, no_summary)
    if settings.env_script is not None:
        from runmem.clusters.local import apply_environment

        apply_environment(settings.env_script)
    from runmem.dashboard.terminal import terminal_view
    from runmem.execution.run import Run
    from runmem.execution.signals import ignore_signals
    from runmem.pycompss.install import install

    install()
    isolate_dask_log()
    isolate_runmem_log()
    view = terminal_view(sys.stderr)
    prepare = ["runmem.pycompss.install:install"]
    observers = [view, counts] if counts is not None else [view]
    run = Run(settings, script.name, sys.argv, observers, prepare, script.import_folder)
    restore_python_signals()
    with raise_on_signals() as received:
        try:
            # Python kills the process after a KeyboardInterrupt in its imports, even one that is caught.
            with raise_on_signals(Signals.SIGINT) as interrupts:
                run.start()
            for number in [*received, *interrupts]:
                raise Terminated(128 + number)
            link_run(options["compss_folder"], program, run.directory.root)
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
    _report_end(run, unseen, no_summary, counts)
    ignore_signals()
    sys.exit(exit_code or (1 if unseen else 0))


def _report_end(run: Run, unseen: list[BaseException], no_summary: bool, counts: TaskCounts | None) -> None:
    """Print the calls cut off by the program's end, the errors it did not wait for, and the summary."""
    full = run.settings.log_level == "debug"
    if run.cut_off is not None and (run.cut_off.cancelled or run.cut_off.not_begun):
        say(f"runmem: {run.cut_off}")
    for error, more in group_equal(unseen):
        is_file = issubclass(type(error), FilePlacementError)
        what = "a file is not in its place" if is_file else "a task failed and the program did not wait for it"
        say(f"runmem: {what}:")
        print_exception(error, full)
        if more:
            say(f"runmem: and {more} more of the same error")
    if no_summary:
        _say_lost_output(run)
    elif run.program.calls or run.settings.python_memory_profile:
        if counts is not None and not run.settings.python_memory_profile:
            say("\n".join(["", *counts.lines(terminal_width(sys.stderr)), ""]))
        summarise(run)


def _execute(run: Run, program: Script | Module, arguments: tuple[str, ...]) -> tuple[int, list[BaseException]]:
    """Run the program and end the run; return the exit code and the errors that the program did not wait for."""
    from runmem.execution.ending import reason_of_end

    master = os.getpid()
    try:
        ended = run_program(program, arguments, run.settings.log_level == "debug")
        if os.getpid() != master:  # a forked child has reached the end of the program
            os._exit(ended.exit_code)
        if ended.by_signal and not run.has_open_calls:
            say(f"runmem: {reason_of_end(ended.exit_code)}")
        return ended.exit_code, run.finish(ended.exit_code, complete=ended.succeeded, final=True)
    except (SystemExit, KeyboardInterrupt) as request:
        # A signal after the program's end and before that of its last task cancels the running tasks.
        exit_code = exit_code_of(request)
    while True:
        try:
            return exit_code, run.finish(exit_code, complete=False, final=True)
        except (Terminated, KeyboardInterrupt):  # another signal, before `finish` has blocked them
            continue


def _syntax_error(error: BaseException) -> list[str]:
    import traceback

    return traceback.format_exception_only(error)


def summarise(run: Run) -> None:
    """Print the table of a run. Errors are reported and do not change the program's exit code."""
    if not run.settings.python_memory_profile:
        _say_lost_output(run)  # the table includes it
        calls = run.program.calls
        say(
            f"runmem: {calls} task call{'s' * (calls != 1)}; memory was not measured (--python_memory_profile does). "
            f"The run is in {relative(run.directory.root)}"
        )
        if (shown := run.directory.shown_graph) is not None:
            say(f"runmem: graph of the calls: {relative(shown)}")
        for graph in run.directory.flame_graphs:
            say(f"runmem: flame graph: {relative(graph)}")
        return
    summarise_run(run.directory.root)


def _say_lost_output(run: Run) -> None:
    if (lost := run.lost_output()) is not None:
        say(f"runmem: {lost}")
