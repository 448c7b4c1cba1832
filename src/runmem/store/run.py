"""Read a run directory, even of a run whose master was killed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from runmem.deaths import Death
from runmem.errors import SettingError
from runmem.events import TaskRecord
from runmem.formats.mprof import Trace, read_trace
from runmem.reading import JsonObject, open_file, read_lines
from runmem.store.batch_job import BatchJob, job_in_line
from runmem.store.layout import JOBS, RunDirectory, safe_name, worker_series
from runmem.store.left_spool import LeftSpool
from runmem.store.node_name import node_name
from runmem.store.output import write_file
from runmem.store.provenance import read_provenance
from runmem.store.records import LOST_END, killed, record_from_line
from runmem.store.task_lines import TaskLines
from runmem.store.workers_run import WORKERS_RUN, died, has_workers_at_work, is_at_work

__all__ = ["RunData", "read_run", "each_record", "newest_run", "write_provenance", "readings_of", "with_children"]

_NO_CAUSE = "the cause is not known (`dask worker --preload-nanny runmem.preload` notes it)"
_MOST_DEATHS = 20
_END_MARGIN_S = 1.0  # readings end up to an interval before the process
_Process = tuple[str, int]  # name of the folder of its node, and process id
_TASK_FILE = re.compile(r"tasks-(\d+)\.jsonl")


@dataclass(frozen=True)
class RunData:
    """The content of a run directory.

    Attributes
    ----------
    directory : RunDirectory
    provenance : dict
        ``run.json``: app, command, started_s, ended_s, exit_code, versions, settings, nodes, trace_files, lost.
    records : list of TaskRecord
    traces : list of Path
        The `.dat` files in the run directory.
    skipped : dict
        File name to the number of its unreadable lines.
    refused : list of str
        Other parts that were ignored, with the reason: values of ``run.json``, unreadable files.
    """

    directory: RunDirectory
    provenance: JsonObject
    records: list[TaskRecord]
    traces: list[Path]
    skipped: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    @property
    def nodes(self) -> dict[str, JsonObject]:
        """Host name to ``memory_bytes``, ``limit_bytes`` (for all processes of the run there), ``limit_source``."""
        return self.provenance.get("nodes") or {}


def readings_of(traces: Iterable[Trace], pid: int) -> tuple[list[float], list[int]]:
    """Return the times (seconds since the epoch) and sizes (bytes) of the samples of worker process `pid`.

    The children of its tasks are subtracted, and with them what they share with the process (its libraries).
    """
    for trace in traces:
        if (series := trace.children.get(worker_series(pid))) is not None:
            times, sizes = series
            children = {each.time_s: each.size_bytes for each in trace.children_of_tasks.get(worker_series(pid), ())}
            alone = [int(size) - children.get(float(t), 0) for t, size in zip(times, sizes, strict=True)]
            return [float(t) for t in times], [max(size, 0) for size in alone]
    return [], []


def with_children(record: TaskRecord, traces: Iterable[Trace]) -> TaskRecord:
    """Return the record of a task whose process died, with its children, GPUs, and the metric of the readings."""
    traces = [trace for trace in traces if worker_series(record.pid) in trace.children]
    metric = traces[0].metric if traces else "rss"
    if metric != "rss":
        record = replace(record, reason=f"{record.reason} (the readings are its {metric})")
    inside = [
        reading
        for trace in traces
        for reading in trace.children_of_tasks.get(worker_series(record.pid), ())
        if reading.time_s >= record.start_s
    ]
    on_gpus = [
        size for trace in traces for time_s, size in trace.gpus.get(worker_series(record.pid), ())
        if time_s >= record.start_s
    ]  # fmt: skip
    record = replace(record, gpu_peak_bytes=max(on_gpus, default=None))
    if not inside:
        return record
    highest = max(inside, key=lambda reading: reading.size_bytes)
    return replace(
        record,
        children_peak_bytes=highest.size_bytes,
        children_method="sampled",
        children_command=highest.command,
    )


def write_provenance(run: RunDirectory, provenance: JsonObject) -> None:
    """Write ``run.json`` as a whole or not at all; on a full disk overwrite the present file, which has blocks."""
    data = json.dumps(provenance, indent=1).encode() + b"\n"
    try:
        write_file(run.run_json, data)
    except OSError as error:
        try:
            with run.run_json.open("r+b") as file:
                file.write(data)
                file.truncate()
        except FileNotFoundError:
            raise error from None


def newest_run(base: Path) -> Path:
    """Return the newest run directory below `base`.

    Raises SettingError if there is none.
    """
    runs = {path.parent: path.stat().st_mtime for path in base.glob("*/run.json") if path.is_file()}
    if not runs:
        raise SettingError(f"no run in {base}: name a run directory, or start a program with `runmem app.py` first.")
    return max(runs, key=lambda path: runs[path])


def read_run(path: Path | str) -> RunData:
    """Read the run directory `path` (or its ``run.json``); skip and count torn, foreign and binary lines.

    Raises SettingError if `path` is not a run directory.
    """
    run = _run_directory(path)
    skipped: dict[str, int] = {}
    provenance, refused = read_provenance(run.run_json)
    records = list(_read_records(run.tasks_jsonl, skipped))
    traces = _traces(run, refused)
    if _has_more_records(run, provenance):
        records += _records_of_replicas(run, traces, records, provenance, skipped)
    skipped = {name: count for name, count in skipped.items() if count}
    if provenance.get("cluster") == WORKERS_RUN:
        deaths = _deaths_of_workers(run, provenance, records, traces)
        provenance = {**provenance, "lost": [*(provenance.get("lost") or []), *deaths]}
    return RunData(run, provenance, records, traces, skipped, refused)


def each_record(path: Path | str) -> Iterator[TaskRecord]:
    """Yield the records of `read_run` one by one, without having all in memory. Raises as that does.

    The records of a run whose master was killed are all read first.
    """
    run = _run_directory(path)
    if _has_more_records(run, read_provenance(run.run_json)[0]):
        return iter(read_run(run.root).records)
    return _read_records(run.tasks_jsonl, {})


def _run_directory(path: Path | str) -> RunDirectory:
    root = Path(path)
    root = root.parent if root.name == "run.json" else root
    run = RunDirectory(root)
    if not run.run_json.is_file() and not run.tasks_jsonl.is_file():
        raise SettingError(
            f"{root} is not a run directory: it has no run.json. Runs are in runmem_runs/<program>_<number>."
        )
    return run


def _has_more_records(run: RunDirectory, provenance: JsonObject) -> bool:
    return not provenance.get("records_complete") and (run.replicas.is_dir() or bool(LeftSpool(provenance).files()))


def _traces(run: RunDirectory, refused: list[str]) -> list[Path]:
    """Return the readable traces."""
    found = []
    for path in sorted(run.traces.glob("*.dat")):
        try:
            open_file(path).close()
            found.append(path)
        except OSError as error:
            refused.append(f"{path.name}: it cannot be read: {error.strerror or error}")
    return found


def _read_records(path: Path, skipped: dict[str, int]) -> Iterator[TaskRecord]:
    try:
        lines = read_lines(path)
    except FileNotFoundError:
        return
    except OSError:
        skipped[path.name] = 1
        return
    for line in lines:
        if (record := record_from_line(line)) is not None:
            yield record
        elif line.strip():
            skipped[path.name] = skipped.get(path.name, 0) + 1


def _records_of_replicas(
    run: RunDirectory, traces: list[Path], known: list[TaskRecord], provenance: JsonObject, skipped: dict[str, int]
) -> list[TaskRecord]:
    """Return the records in the nodes' task lines that are not `known`: the master died before it wrote them."""
    seen = {(record.node, record.pid, record.task_id, record.start_s) for record in known}
    lines = TaskLines()
    found: list[TaskRecord] = []
    spool = LeftSpool(provenance)
    folders = {path.name: path for path in run.replicas.iterdir() if path.is_dir()} if run.replicas.is_dir() else {}
    for name in sorted({*folders, *([safe_name(spool.node)] if spool.files() else [])}):
        of_spool = spool if name == safe_name(spool.node) else None
        chunks = _task_lines(folders.get(name), of_spool)
        before = lines.skipped
        ended = b"".join(lines.feed(name, chunks).records)
        read = [record_from_line(line) for line in ended.splitlines()]
        found += [record for record in read if record is not None]
        place = f"{run.replicas.name}/{name}"
        skipped[place] = skipped.get(place, 0) + lines.skipped - before + read.count(None)
    unfinished = lines.pop_unfinished()
    if unfinished and provenance.get("cluster") == WORKERS_RUN:
        readings, causes, jobs = [read_trace(path) for path in traces], _causes_of_deaths(run), _jobs_of_workers(run)
        unfinished = [_cut_off_at_worker(record, readings, provenance, causes, jobs) for record in unfinished]
    elif unfinished and not _still_running(provenance):
        readings = [read_trace(path) for path in [*spool.traces(), *traces]]
        unfinished = [_cut_off(record, readings, provenance, spool) for record in unfinished]
    return [r for r in found + unfinished if (r.node, r.pid, r.task_id, r.start_s) not in seen]


def _task_lines(folder: Path | None, spool: LeftSpool | None) -> dict[int, bytes]:
    """Return the task lines of a node by process id: the master's copy, and later lines of the spool."""
    chunks: dict[int, bytes] = {}
    names = {path.name for path in folder.iterdir()} if folder is not None else set()
    for name in sorted(names.union(spool.files() if spool is not None else [])):
        if match := _TASK_FILE.fullmatch(name):
            copy = b""
            if folder is not None and name in names:
                with suppress(OSError):
                    copy = b"".join(read_lines(folder / name))
            chunks[int(match[1])] = copy + (spool.lines(name, len(copy)) if spool is not None else b"")
    return chunks


def _cut_off_at_worker(
    record: TaskRecord, readings: list[Trace], provenance: JsonObject, causes: dict[_Process, Death],
    jobs: dict[_Process, BatchJob],
) -> TaskRecord:  # fmt: skip
    """Return the record of a task without a known end, in a run that its workers recorded themselves."""
    if is_at_work(provenance, record.node, record.pid):
        return record
    process = record.node, record.pid
    unknown = Death.unknown(f"its worker process ended before the task did{_in_job(jobs.get(process))}")
    death = causes.get(process, unknown)
    return with_children(killed(record, readings_of(readings, record.pid), death), readings)


def _deaths_of_workers(
    run: RunDirectory, provenance: JsonObject, records: list[TaskRecord], traces: list[Path]
) -> list[str]:
    """Return a line for each worker that has died, in a run that its workers recorded themselves.

    Those that were ended with the cluster, while they ran no task, are left out.
    """
    causes, jobs = _causes_of_deaths(run), _jobs_of_workers(run)
    dead = died(provenance, causes)
    ended = _ended_with_cluster(dead, causes, provenance, records, traces)
    found = []
    for node, pid in dead:
        process = safe_name(node), pid
        if process in ended:
            continue
        death = causes.get(process)
        why = death.words if death is not None else _NO_CAUSE + _in_job(jobs.get(process))
        found.append(f"worker process {pid} on node {node}: it died: {why}")
    more = [f"worker processes: {len(found) - _MOST_DEATHS:,} more died"] if len(found) > _MOST_DEATHS else []
    return [*found[:_MOST_DEATHS], *more]


def _ended_with_cluster(
    dead: list[_Process], causes: dict[_Process, Death], provenance: JsonObject, records: list[TaskRecord],
    traces: list[Path],
) -> set[_Process]:  # fmt: skip
    """Return the dead workers that somebody ended when the work was done: dask-jobqueue, a batch system.

    No worker is at work any more, and none has begun a task since the last reading of such a process. It ran no task,
    and no nanny has noted another cause.
    """
    unclear = [(safe_name(node), pid) for node, pid in dead if (safe_name(node), pid) not in causes]
    if not unclear or has_workers_at_work(provenance):
        return set()
    killed = {(safe_name(record.node), record.pid) for record in records if record.status in ("killed", "running")}
    last_begin_s = max((record.start_s for record in records), default=0.0)
    readings = {safe_name(path.stem): read_trace(path) for path in traces}
    found = set()
    for node, pid in set(unclear) - killed:
        times, _ = readings_of([readings[node]] if node in readings else [], pid)
        if times and last_begin_s <= times[-1] + _END_MARGIN_S:
            found.add((node, pid))
    return found


def _in_job(job: BatchJob | None) -> str:
    return "" if job is None else f"; it ran in {job}, whose log may say more"


def _jobs_of_workers(run: RunDirectory) -> dict[_Process, BatchJob]:
    """Return the batch jobs of the workers that ran in one."""
    found: dict[_Process, BatchJob] = {}
    for path in run.replicas.glob(f"*/{JOBS}"):
        with suppress(OSError):
            for line in read_lines(path):
                with suppress(ValueError, KeyError, TypeError):
                    pid, job = job_in_line(line)
                    found[path.parent.name, pid] = job
    return found


def _causes_of_deaths(run: RunDirectory) -> dict[_Process, Death]:
    """Return why processes died, as their nannies noted it."""
    found: dict[_Process, Death] = {}
    for path in run.replicas.glob("*/deaths-*.jsonl"):
        with suppress(OSError):
            for line in read_lines(path):
                with suppress(ValueError, KeyError, TypeError):
                    noted = json.loads(line)
                    if (death := Death.from_values(noted)) is not None:
                        found.setdefault((path.parent.name, int(noted["pid"])), death)
    return found


def _cut_off(record: TaskRecord, readings: list[Trace], provenance: JsonObject, spool: LeftSpool) -> TaskRecord:
    """Return the record of a task without a known end, in a run that has ended."""
    if provenance.get("ended_s") is not None:
        return replace(record, reason=LOST_END)
    reason = "the process ended before the task did; the run's master was killed before it recorded why"
    if spool.root is None or record.node != safe_name(spool.node):
        reason += ", and may have missed an end in the last second"
    death = Death.unknown(reason)
    return with_children(killed(record, readings_of(readings, record.pid), death), readings)


def _still_running(provenance: JsonObject) -> bool:
    """Return True if the run's master is known to be alive on this host."""
    if provenance.get("ended_s") is not None or provenance.get("host") != node_name():
        return False
    try:
        os.kill(provenance["pid"], 0)
    except (KeyError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True
