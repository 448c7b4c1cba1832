"""`runmem run`: run a program."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from runmem.cli.program import load_program, print_exception, run_program
from runmem.settings import LOG_LEVELS, resolve

__all__ = ["command"]

_PASS_ON = {"allow_interspersed_args": False, "help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.command("run", context_settings=_PASS_ON)
@click.option("--python_memory_profile", is_flag=True, default=None,
              help="Measure memory: a record for each task, a .dat trace for the master and each node.")  # fmt: skip
@click.option("--memory_interval", metavar="SECONDS", help="Time between two readings of a node.  [default: 0.1]")
@click.option("--workers", metavar="N", help="Worker processes, one thread each.  [default: one a core]")
@click.option("--worker_memory", metavar="SIZE",
              help="Memory limit of a worker, such as 2GiB.  [default: its share of what this machine allows]")  # fmt: skip
@click.option("--scheduler", metavar="ADDRESS", help="Use the Dask scheduler at ADDRESS, such as tcp://10.0.0.5:8786.")
@click.option("--env_script", metavar="FILE", help="Shell script that is sourced before workers start.")
@click.option("--log_level", type=click.Choice(LOG_LEVELS), help="debug shows the workers' @profile reports.")
@click.option("--run_folder", metavar="DIR", help="Where run directories are made.  [default: runmem_runs]")
@click.option("--malloc_trim", is_flag=True, default=None,
              help="Give freed memory back before each task, so that its increment is its own.")  # fmt: skip
@click.option("--no_summary", is_flag=True, help="Do not print the table at the end.")
@click.argument("program", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(program: Path, arguments: tuple[str, ...], no_summary: bool, **options: Any) -> None:
    """Run PROGRAM with its ARGUMENTS; calls of its @task functions run in parallel on a Dask cluster.

    Without --scheduler the cluster is started on this machine and ends with the program. The exit code is that of the
    program, 128 + the signal when one ended it, and 2 when runmem could not start it.

    \b
    Examples:
      runmem app.py input.csv
      runmem --python_memory_profile --workers=4 app.py
      runmem --scheduler tcp://10.0.0.5:8786 app.py

    Every option can also be set in the environment (RUNMEM_WORKERS=4) or in Dask's configuration (runmem: workers: 4).
    The traces go to the folder you are in, or to COMPSS_WORKER_PROFILE_PATH.
    """
    renamed = {"memory_interval": "memory_interval_s", "worker_memory": "worker_memory_bytes"}
    settings = resolve({renamed.get(name, name): value for name, value in options.items()})
    try:
        code = load_program(program)
    except SyntaxError as error:
        print("".join(_syntax_error(error)), end="", file=sys.stderr)
        sys.exit(1)
    from runmem.dashboard.terminal import terminal_view
    from runmem.execution.run import Run
    from runmem.pycompss.install import install

    install()
    view = terminal_view(sys.stderr)
    run = Run(settings, program.stem, sys.argv, [view], ["runmem.pycompss.install:install"]).start()
    exit_code = run_program(code, program, arguments)
    unseen = run.finish(exit_code)
    view.close()
    for error in unseen:
        print("runmem: a task failed and the program did not wait for it:", file=sys.stderr)
        print_exception(error)
    if not no_summary and (run.program.calls or settings.python_memory_profile):
        _summarise(run)
    sys.exit(exit_code or (1 if unseen else 0))


def _syntax_error(error: SyntaxError) -> list[str]:
    import traceback

    return traceback.format_exception_only(error)


def _summarise(run: Any) -> None:
    """Print the table of a run; a mistake in it must not cost the program its exit code."""
    try:
        from rich.console import Console

        from runmem.reports.summary import RunSummary
        from runmem.store.run import read_run

        RunSummary.from_run(read_run(run.directory.root)).render(Console(stderr=True))
    except Exception as error:
        print(f"runmem: the summary could not be made ({type(error).__name__}: {error}); the run is in "
              f"{run.directory.root}", file=sys.stderr)  # fmt: skip
