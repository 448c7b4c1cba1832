"""Prints the summary of a run directory."""

from __future__ import annotations

import sys
from pathlib import Path

from runmem.standard_error import say

__all__ = ["relative", "summarise_run"]


def summarise_run(root: Path) -> None:
    """Print the table of a run directory to standard error; an error is reported there too."""
    try:
        from rich.console import Console

        from runmem.reports.summary import RunSummary
        from runmem.store.run import read_run

        if sys.stderr is None:
            return
        console = Console(stderr=True)
        with console.capture() as captured:
            RunSummary.from_run(read_run(root)).render(console)
        say(captured.get().removesuffix("\n"))
    except Exception as error:
        where = relative(root)
        say(f"runmem: the summary could not be made ({type(error).__name__}: {error}); the run is in {where}")


def relative(path: Path) -> str:
    """Return a path relative to the current folder if it is below it."""
    try:
        here = Path.cwd()
    except OSError:  # the folder was deleted
        return str(path)
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
