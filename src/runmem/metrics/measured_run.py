"""The input of metrics: a run directory, or only traces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runmem.errors import SettingError
from runmem.events import TaskRecord
from runmem.formats.mprof import Trace, read_trace
from runmem.metrics.from_traces import MASTER, TracePeak, bracket_peaks, node_peak, run_peak, trace_owner, with_children
from runmem.store.layout import RunDirectory
from runmem.store.run import read_run

__all__ = ["MeasuredRun", "read_measured_runs"]


@dataclass(frozen=True)
class MeasuredRun:
    """The measurements of one run.

    Attributes
    ----------
    name : str
        Name of its program, the default package of metrics.
    title : str
        Name of its directory, its trace, or the folder of its traces.
    folder : Path
        Folder for the results.
    records : list of TaskRecord
    traces : dict of str to Trace
        By node, with ``master`` for the program itself.
    nodes : tuple of str
        All nodes except the master, even without a trace.
    skipped : dict of str to int
        File name to the number of its unreadable lines.
    refused : list of str
        Other ignored parts of the files, with the reason.
    has_records : bool
        Whether it is a run directory; otherwise there are traces only, with brackets for tasks.
    files : dict of str to str
        Node to the file name of its trace.
    """

    name: str
    title: str
    folder: Path
    records: list[TaskRecord]
    traces: dict[str, Trace]
    nodes: tuple[str, ...]
    skipped: dict[str, int]
    has_records: bool
    files: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    @classmethod
    def from_directory(cls, path: Path) -> MeasuredRun:
        """Return the run in a run directory. Raises as `read_run`."""
        data = read_run(path)
        known = {*data.nodes, *(record.node for record in data.records)}
        traces, files, skipped = _read_traces(data.traces, known)
        root = data.directory.root.resolve()
        app = data.provenance.get("app")
        name = app if isinstance(app, str) and app else root.name.rpartition("_")[0] or root.name
        nodes = tuple(sorted((known | set(traces)) - {MASTER}))
        folder, skipped = data.directory.root, {**data.skipped, **skipped}
        return cls(name, root.name, folder, data.records, traces, nodes, skipped, True, files, data.refused)

    @classmethod
    def from_traces(cls, paths: Sequence[Path], folder: Path) -> MeasuredRun:
        """Return the run of `.dat` traces, one for each node.

        Raises SettingError if a file cannot be read, or none is a trace.
        """
        traces, files, skipped = _read_traces(paths, ())
        traces = {node: with_children(trace) for node, trace in traces.items()}
        if not any(trace.times_s.size or trace.children or trace.brackets for trace in traces.values()):
            raise SettingError(
                f"{', '.join(map(str, paths))}: not a memory trace, there is no MEM, CHLD or FUNC line, and "
                f"{sum(trace.skipped for trace in traces.values())} others"
            )
        title = paths[0].name if len(paths) == 1 else folder.resolve().name
        nodes = tuple(sorted(node for node in traces if not _is_master(node)))
        return cls("trace", title, folder, [], traces, nodes, skipped, False, files)

    @property
    def masters(self) -> tuple[str, ...]:
        """The names of traces of programs: at most one in a run directory."""
        return tuple(node for node in self.traces if _is_master(node))

    @property
    def targets(self) -> list[str]:
        """The measurable tasks, in the order of their names."""
        if self.has_records:
            return sorted({record.target for record in self.records})
        return sorted({bracket.name for trace in self.traces.values() for bracket in trace.brackets})

    def node_peak(self, node: str) -> TracePeak | None:
        """Return the peak of a node or the master, as in `runmem report`; None without totals."""
        trace = self.traces.get(node)
        if trace is None:
            return None
        if not self.has_records:
            return node_peak(trace)
        sizes = [int(series.max()) for _, series in trace.children.values() if series.size]
        if trace.metric != "rss":  # the records have resident set sizes, which that does not include
            return node_peak(trace, max(sizes, default=0))
        sizes += [record.peak_bytes for record in self.records if record.node == node and record.peak_bytes is not None]
        return node_peak(trace, max(sizes, default=0))

    def run_peak(self) -> TracePeak | None:
        """Return the peak of the sum over the nodes, or that of the program if only one program was traced."""
        nodes = self.nodes or (() if self.has_records or len(self.masters) != 1 else self.masters)
        peaks = {node: peak for node in nodes if (peak := self.node_peak(node)) is not None}
        return run_peak({node: self.traces[node] for node in peaks}, peaks)

    def bracket_peaks(self, name: str) -> list[TracePeak]:
        """Return the highest total inside each bracket named `name`."""
        return bracket_peaks(self.traces.values()).get(name, [])


def read_measured_runs(paths: Sequence[Path]) -> list[MeasuredRun]:
    """Return the runs at `paths`.

    Raises SettingError if a path is none of these.

    Parameters
    ----------
    paths : sequence of Path
        Run directories or their ``run.json``, folders of `.dat` traces, and `.dat` traces. All traces in `paths` belong
        to one run, as do those in a folder.
    """
    lone = [path for path in paths if path.suffix == ".dat" and not path.is_dir()]
    found = [MeasuredRun.from_traces(lone, lone[0].parent)] if lone else []
    for path in paths:
        if path in lone:
            continue
        if not path.exists():
            raise SettingError(
                f"{path} does not exist: give a run directory such as runmem_runs/wordcount_01, or .dat files"
            )
        dats = sorted(path.glob("*.dat")) if path.is_dir() else []
        is_run = not path.is_dir() or RunDirectory(path).is_one
        if not is_run and not dats:
            raise SettingError(
                f"{path} has nothing to measure: it is not a run directory (it has no run.json), and it has no .dat "
                "traces"
            )
        found.append(MeasuredRun.from_traces(dats, path) if dats and not is_run else MeasuredRun.from_directory(path))
    return found


def _is_master(node: str) -> bool:
    return node == MASTER or node.startswith("mprofile_")


def _read_traces(
    paths: Iterable[Path], known: Iterable[str]
) -> tuple[dict[str, Trace], dict[str, str], dict[str, int]]:
    """Return traces and file names by node, and numbers of skipped lines by file name."""
    traces: dict[str, Trace] = {}
    files: dict[str, str] = {}
    skipped: dict[str, int] = {}
    paths = list(paths)
    known = set(known)
    several = sum(trace_owner(path.name, known) == MASTER for path in paths) > 1
    for path in paths:
        try:
            trace = read_trace(path)
        except OSError as error:
            raise SettingError(f"{path} cannot be read: {error.strerror or error}") from error
        node = trace_owner(path.name, known)
        node = path.stem if node == MASTER and several else node
        if node in traces:
            raise SettingError(f"{path} and {files[node]} are both a trace of {node}: give those of one run")
        traces[node], files[node] = trace, path.name
        if trace.skipped:
            skipped[path.name] = trace.skipped
    return traces, files, skipped
