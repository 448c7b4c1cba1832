"""The summary of a run, as data and as printed text."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runmem.events import TaskRecord
from runmem.formats.mprof import Trace, read_trace
from runmem.reading import JsonObject
from runmem.reports import sections
from runmem.reports.memory_rows import MemoryRow, memory_rows
from runmem.reports.node_rows import MASTER, NodeRow, node_rows
from runmem.reports.task_rows import TaskRow, task_rows, unclear_reasons
from runmem.store.run import RunData
from runmem.table import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["RunSummary"]

_MOST_KILLED = 10
_MOST_GRAPHS = 3
_MOST_MEMORY_ROWS = 20


@dataclass(frozen=True)
class RunSummary:
    """The summary of a run.

    Attributes
    ----------
    title : str
        Name of the run's directory, or of the program.
    tasks : list of TaskRow
    nodes : list of NodeRow
    killed : list of TaskRecord
        Executions whose process died.
    memory_errors : list of TaskRecord
        Executions that raised a `MemoryError`, with the facts about it.
    lost : list of str
        Measurements that were lost, and why.
    intervals : list of str
        Where the nodes were read less often than usual, and why.
    skipped : dict of str to int
        File name to the number of its unreadable lines.
    missing_reasons : list of str
        Why peaks are missing, the most frequent reason first.
    unclear_reasons : list of str
        Why increments are unclear, the most frequent reason first.
    directory : Path or None
        The run directory.
    trace_files : list of Path
        Traces, named in the folder where the run was started if they are still there.
    profile_count : int
        Number of files of `@profile` reports in the run directory.
    flame_graphs : tuple of Path
        Pages with the allocations of recorded calls.
    task_graph : Path or None
        Graph of the calls (``--graph``), its drawing if there is one.
    started_s, ended_s : float or None
        Seconds since the epoch.
    exit_code : int or None
    calls : int or None
        Task calls of the program; None without a recorded end, and for a plain Dask program.
    nested_calls : int
        Calls that tasks made (``--nested``) and that have a record.
    is_measured : bool or None
        Whether the run was to measure memory; None if unknown.
    memory_metric : str
        What was read in samples: ``rss``, ``pss`` or ``uss``.
    memory : list of MemoryRow
        What Dask did because the memory of workers was short.
    """

    title: str
    tasks: list[TaskRow]
    nodes: list[NodeRow] = field(default_factory=list)
    killed: list[TaskRecord] = field(default_factory=list)
    memory_errors: list[TaskRecord] = field(default_factory=list)
    cancelled: list[TaskRecord] = field(default_factory=list)
    calls_not_begun: int = 0
    lost: list[str] = field(default_factory=list)
    intervals: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    missing_reasons: list[str] = field(default_factory=list)
    unclear_reasons: list[str] = field(default_factory=list)
    directory: Path | None = None
    trace_files: list[Path] = field(default_factory=list)
    profile_count: int = 0
    flame_graphs: tuple[Path, ...] = ()
    task_graph: Path | None = None
    started_s: float | None = None
    ended_s: float | None = None
    exit_code: int | None = None
    calls: int | None = None
    nested_calls: int = 0
    is_measured: bool | None = None
    memory_metric: str = "rss"
    memory: list[MemoryRow] = field(default_factory=list)

    @classmethod
    def from_run(cls, run: RunData) -> RunSummary:
        """Return the summary of a run directory, reading its traces."""
        traces, unreadable = {}, list(run.refused)
        for path in run.traces:
            try:
                traces[path.name] = read_trace(path)
            except OSError as error:
                unreadable.append(f"{path.name}: it cannot be read: {error.strerror or error}")
        root = run.directory.root
        return cls.from_records(
            run.records,
            traces=traces,
            provenance=run.provenance,
            skipped=run.skipped,
            lost=unreadable,
            title=root.name or str(root),
            directory=root,
            trace_files=_trace_files(run),
            profile_count=sum(path.is_file() for path in run.directory.profiles.glob("*.txt")),
            flame_graphs=run.directory.flame_graphs,
            task_graph=run.directory.shown_graph,
        )

    @classmethod
    def from_records(
        cls,
        records: Iterable[TaskRecord],
        traces: Mapping[str, Trace] | None = None,
        provenance: JsonObject | None = None,
        skipped: Mapping[str, int] | None = None,
        lost: Iterable[str] = (),
        title: str = "run",
        **files: Any,
    ) -> RunSummary:
        """Return the summary of records in memory; every other part may be missing.

        Parameters
        ----------
        traces : mapping
            File name to trace.
        provenance : mapping
            Content of ``run.json``.
        **files
            `directory`, `trace_files`, `profile_count`, `flame_graphs`, `task_graph`.
        """
        records, traces, known = list(records), dict(traces or {}), dict(provenance or {})
        nodes, settings = known.get("nodes") or {}, known.get("settings") or {}
        reasons = Counter(r.reason or _without_reason(r) for r in records if r.peak_bytes is None)
        unclear = unclear_reasons(records)
        metric = str(settings.get("memory_metric") or "rss")
        return cls(
            title=title,
            tasks=task_rows(records, metric),
            nodes=node_rows(records, traces, nodes, known.get("host"), known.get("cluster") == "local"),
            killed=[record for record in records if record.status == "killed"],
            memory_errors=[r for r in records if r.status == "failed" and r.death is not None],
            cancelled=[record for record in records if record.status == "cancelled"],
            calls_not_begun=known.get("calls_not_begun") or 0,
            lost=[*(known.get("lost") or ()), *_lost_lines(traces), *filter(None, [known.get("lost_output")]), *lost],
            intervals=known.get("intervals") or [],
            skipped={**(skipped or {}), **{file: trace.skipped for file, trace in traces.items() if trace.skipped}},
            missing_reasons=[reason for reason, _ in reasons.most_common(3)],
            unclear_reasons=[reason for reason, _ in unclear.most_common(3)],
            started_s=known.get("started_s"),
            ended_s=known.get("ended_s"),
            exit_code=known.get("exit_code"),
            calls=known.get("calls") if known.get("ended_s") and not any(r.key for r in records) else None,
            nested_calls=known.get("nested_calls_recorded") or 0,
            is_measured=settings.get("python_memory_profile"),
            memory_metric=metric,
            memory=memory_rows(traces, [*nodes, *{record.node: None for record in records}]),
            **files,
        )

    def as_dict(self) -> JsonObject:
        """Return the summary for JSON: sizes in bytes, times in seconds since the epoch, null for missing values."""
        content = asdict(self)
        content["directory"] = None if self.directory is None else str(self.directory)
        content["trace_files"] = [str(path) for path in self.trace_files]
        return content

    def render(self, console: Console, most_rows: int | None = 30) -> None:
        """Print the summary, in colour and fitting the width on a terminal, as plain lines elsewhere.

        Parameters
        ----------
        most_rows : int or None
            Number of tasks to list, in descending order of their peaks; None for all.
        """
        from rich.text import Text

        for text, style in self.lines(console.width if console.is_terminal else None, most_rows):
            console.print(Text(printable(text), style=style), soft_wrap=True)

    def lines(self, width: int | None = None, most_rows: int | None = 30) -> list[sections.Line]:
        """Return the lines of the summary with their styles, for `render`; None: without a limit of their width."""
        elapsed_s = None if self.started_s is None or self.ended_s is None else self.ended_s - self.started_s
        blank: sections.Line = ("", "")
        tasks = sections.without_tasks(self._calls_begun, self.is_measured)
        if self.tasks:
            tasks = sections.task_table(self.tasks, width, most_rows)
        tasks += sections.how_line(self.tasks, self.missing_reasons)
        tasks += sections.unclear_lines(self.tasks, self.unclear_reasons)
        tasks += sections.children_lines(self.tasks, self.memory_metric)
        # Do not explain a mark again that the tasks section explains.
        nodes = [line for line in sections.node_table(self.nodes, self.started_s, width) if line not in tasks]
        return [
            *sections.headline(self.title, elapsed_s, self.exit_code, self.tasks, self.calls, self.nested_calls),
            blank,
            *tasks,
            *([blank, *nodes] if nodes else []),
            *sections.section(
                "Spilled, paused or restarted",
                sections.memory_lines(self.memory, self.started_s, width, most_rows and _MOST_MEMORY_ROWS),
            ),
            *sections.section("Killed", sections.killed_lines(self.killed, most_rows and _MOST_KILLED)),
            *sections.section(
                "MemoryError", sections.memory_error_lines(self.memory_errors, most_rows and _MOST_KILLED)
            ),
            *sections.section(
                "Cancelled", sections.cancelled_lines(self.cancelled, self.calls_not_begun, most_rows and _MOST_KILLED)
            ),
            *sections.section("Intervals", [(f"  {printable(text)}", "yellow") for text in self.intervals]),
            *sections.section("Lost or unreadable", self._loss_lines()),
            *sections.section("Files", self._file_lines()),
            *sections.section("Next", [(f"  {printable(command)}", "cyan") for command in self.next_commands()]),
        ]

    @property
    def _calls_begun(self) -> int | None:
        """Calls that ran; without measurements all, since it is not known which ones ran."""
        return self.calls if self.calls is None or self.is_measured is False else self.calls - self.calls_not_begun

    def _loss_lines(self) -> list[sections.Line]:
        missing = []
        if self._calls_begun and not self.tasks and self.is_measured is not False:
            missing = [f"tasks.jsonl: no record of {sections.calls_counted(self._calls_begun)}"]
        skipped = [f"{file}: {sections.lines_skipped(count)}" for file, count in self.skipped.items()]
        return [(f"  {printable(text)}", "yellow") for text in [*self.lost, *missing, *skipped]]

    def _file_lines(self) -> list[sections.Line]:
        found = [f"trace     {_near(path)}" for path in self.trace_files]
        if self.directory is not None:
            found.insert(0, f"run       {_near(self.directory)}")
        if self.profile_count and self.directory is not None:
            found.append(f"profiles  {_near(self.directory / 'profiles')} ({_files(self.profile_count)})")
        if self.task_graph is not None:
            found.append(f"graph     {_near(self.task_graph)}")
        found += [f"graph     {_near(path)}" for path in self.flame_graphs[:_MOST_GRAPHS]]
        if len(self.flame_graphs) > _MOST_GRAPHS:
            found.append(f"and {len(self.flame_graphs) - _MOST_GRAPHS} more flame graphs beside them")
        return [(f"  {printable(text)}", "") for text in found]

    def next_commands(self) -> list[str]:
        """Suggest commands: draw the run, and plot the trace of the node with the highest peak."""
        found = []
        if self.directory is not None and self.is_measured is not False:
            found.append(f"runmem report {shlex.quote(_near(self.directory))} --figure memory.png")
        if self.trace_files:
            nodes = [row for row in self.nodes if row.node != MASTER and row.trace and row.peak_bytes is not None]
            fullest = max(nodes, key=lambda row: row.peak_bytes or 0, default=None)
            wanted = [path for path in self.trace_files if fullest and path.name == fullest.trace]
            found.append(f"mprof plot {shlex.quote(_near((wanted or self.trace_files)[0]))}")
        return found


def _without_reason(record: TaskRecord) -> str:
    return "it has not ended yet" if record.status == "running" else "no reason is recorded"


def _lost_lines(traces: Mapping[str, Trace]) -> list[str]:
    lost = {file: trace.lost_lines for file, trace in traces.items() if trace.lost_lines}
    return [f"{file}: {count} lines could not be written on the node" for file, count in lost.items()]


def _trace_files(run: RunData) -> list[Path]:
    """Return the run's traces, each by its path in the launch folder if that is still the same file.

    A later run may have replaced it.
    """
    outside = {Path(path).name: Path(path) for path in run.provenance.get("trace_files") or ()}
    return [there if _is_same(there := outside.get(path.name, path), path) else path for path in run.traces]


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


def _near(path: Path) -> str:
    """Return a path relative to the current folder if it is below it, else as it is."""
    try:
        return os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)
    except OSError:
        return str(path)
