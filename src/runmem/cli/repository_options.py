"""Options of the commands that read the metadata of a repository of LSST, and the reading with its progress."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from runmem.errors import SettingError

if TYPE_CHECKING:
    from runmem.metrics.usage_summary import TaskUsage

__all__ = ["Repository", "repository_options"]


@dataclass(frozen=True)
class Repository:
    """A repository to read, and what to read of it.

    Attributes
    ----------
    uri : str
    collections, tasks : tuple of str
        Names and labels, or patterns; no task for all of them.
    workers : int or None
    """

    uri: str
    collections: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    workers: int | None = None

    def with_tasks(self, labels: str | None) -> Repository:
        """Return the same with the labels of an option."""
        return replace(self, tasks=_words([labels or ""]))

    def read(self) -> tuple[list[TaskUsage], list[str]]:
        """Return memory and time of the quanta of each task, and remarks on what was not read.

        On a terminal the progress is shown.

        Raises
        ------
        ButlerError
            If repository or collections cannot be read.
        SettingError
            If LSST's packages are not installed, or there are no such metadata.
        """
        from runmem.dashboard.status_line import StatusLine
        from runmem.lsst import MetadataRepository

        repository = MetadataRepository(self.uri, self.collections, self.tasks)
        if not sys.stderr.isatty():
            return repository.read(workers=self.workers), repository.ignored
        line = StatusLine(sys.stderr)
        try:
            usages = repository.read(
                lambda done, total: line.show(f"{done:,} of {total:,} quanta read"), workers=self.workers
            )
        finally:
            line.hide()
        return usages, repository.ignored


def repository_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which gets ``repository``: a `Repository`, or None without ``--butler``."""

    @click.option("--butler", metavar="REPO", help="Read the metadata of quanta in this repository of LSST.")
    @click.option(
        "--collections",
        multiple=True,
        metavar="NAMES",
        help="With --butler: the collections to read, with commas between them, or several times; * is a wildcard.",
    )
    @click.option(
        "--workers",
        type=click.IntRange(1),
        metavar="N",
        help="With --butler: processes that read.  [default: one per core; none for a few thousand quanta]",
    )
    @functools.wraps(command)
    def with_repository(
        *args: Any, butler: str | None, collections: tuple[str, ...], workers: int | None, **options: Any
    ) -> Any:
        if butler is None:
            for name, value in (("--collections", collections), ("--workers", workers)):
                if value:
                    raise SettingError(f"{name} needs --butler REPO")
            return command(*args, repository=None, **options)
        return command(*args, repository=Repository(butler, _words(collections), workers=workers), **options)

    return with_repository


def _words(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(word.strip() for text in texts for word in text.split(",") if word.strip())
