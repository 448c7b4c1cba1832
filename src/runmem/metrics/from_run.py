"""The metrics of a run: the possible metrics with their names, their measurements, and the Job."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from runmem.errors import SettingError
from runmem.formats.mprof import FORKED
from runmem.metrics.from_records import metadata_from_records
from runmem.metrics.from_traces import TracePeak, includes_forked
from runmem.metrics.measured_run import MeasuredRun
from runmem.metrics.memory_metric import MemoryMetricTask
from runmem.metrics.metric_task import MetadataMetricTask
from runmem.pipe_base.errors import MetricComputationError, NoWorkFound
from runmem.reading import JsonObject
from runmem.verify.bounds import LOWER, NONE
from runmem.verify.job import Job
from runmem.verify.measurement import Measurement
from runmem.verify.metric import Metric
from runmem.verify.name import Name, checked_part

__all__ = [
    "CHILDREN",
    "NODE",
    "WHOLE_RUN",
    "MetricChoice",
    "all_choices",
    "camel_case",
    "chosen",
    "configured",
    "default_package",
    "full_target",
    "job_of_run",
    "measure",
]

NODE = "node:"
CHILDREN = "children:"
WHOLE_RUN = "whole-run"  # not a valid name of a task, because of the hyphen
_MOST_LISTED = 40
_SHARED_PAGES: JsonObject = {
    "bound": NONE, "shared_pages": "memory that forked processes share counts in each of them",
}  # fmt: skip


@dataclass(frozen=True)
class MetricChoice:
    """A metric and its target.

    Attributes
    ----------
    name : Name
        ``package.metric``.
    target : str
        The full name of a task; ``children:`` and that of a task; ``node:`` and the name of a node (or ``master``); or
        ``whole-run``.
    task : MetadataMetricTask or None
        The metric task; None for a `MemoryMetricTask` with that name and target.
    problem : str or None
        Why there is nothing to measure.
    """

    name: Name
    target: str
    task: MetadataMetricTask | None = None
    problem: str | None = None


def all_choices(run: MeasuredRun, package: str | None = None) -> list[MetricChoice]:
    """Return a metric for each task and its child processes, for each node and the master, and for the whole run.

    The metric of task ``wordcount.count_words`` is ``<package>.CountWordsMemory``, or ``WordcountCountWordsMemory`` if
    the name is not unique; that of its child processes, if it has had any, ``CountWordsChildrenMemory``; that of node
    ``n1`` is ``NodeMemory_n1``, of the master ``MasterMemory``, of the run ``RunMemory``.
    """
    tasks, nodes = run.targets, [*run.masters, *run.nodes]
    short = Counter(camel_case(target.rpartition(".")[2]) for target in tasks)
    parents = {record.target for record in run.records if record.children_method is not None}
    wanted = []
    for target in tasks:
        last = camel_case(target.rpartition(".")[2])
        is_plain = short[last] == 1 and last not in ("Run", "Master")
        name = last if is_plain else camel_case(target)
        wanted.append((f"{name}Memory", target))
        if target in parents:
            wanted.append((f"{name}ChildrenMemory", CHILDREN + target))
    for node in nodes:
        wanted.append(("MasterMemory" if node == "master" else f"NodeMemory_{_word(node)}", NODE + node))
    wanted.append(("RunMemory", WHOLE_RUN))
    taken: Counter[str] = Counter()
    choices = []
    for metric, target in wanted:
        taken[metric] += 1
        number = f"_{taken[metric]}" if taken[metric] > 1 else ""
        choices.append(MetricChoice(Name(_package(run, package), f"{metric}{number}"), target))
    return choices


def chosen(
    run: MeasuredRun, targets: Iterable[str], package: str | None = None, metric: str | None = None
) -> list[MetricChoice]:
    """Return the metrics of targets, each given by its full name or an unambiguous end of it.

    Raises SettingError if the run does not have the target, or a name or its package has a dot or is empty.

    Parameters
    ----------
    metric : str, optional
        Name of the metric of a single target.
    """
    found = list(dict.fromkeys(full_target(run, target) for target in targets))
    if metric is not None:
        if len(found) != 1:
            raise SettingError(f"--metric {metric} names one metric, and there are {len(found)} targets: give one")
        return [MetricChoice(Name(_package(run, package), checked_part("metric", metric, "metric ")), found[0])]
    by_target = {choice.target: choice for choice in all_choices(run, package)}
    return [by_target[target] for target in found]


def configured(run: MeasuredRun, tasks: Iterable[MetadataMetricTask]) -> list[MetricChoice]:
    """Return the metrics of configured metric tasks, including those whose target is not in the run."""
    choices = []
    for task in tasks:
        connections = task.config.connections
        name, target = Name(connections.package, connections.metric), str(task.config.target)
        try:
            choices.append(MetricChoice(name, full_target(run, target), task))
        except SettingError as error:
            choices.append(MetricChoice(name, target, task, str(error)))
    return choices


def full_target(run: MeasuredRun, target: str) -> str:
    """Return the full name of a target, given by it or an unambiguous end of it.

    Raises SettingError if there is none or several; the message lists them.
    """
    if target == WHOLE_RUN:
        return target
    if not target.removeprefix(CHILDREN):
        raise SettingError("the target is empty: name a task, children:TASK, node:NAME or whole-run")
    if target.startswith(CHILDREN):
        task = full_target(run, target.removeprefix(CHILDREN))
        if not any(record.target == task and record.children_method for record in run.records):
            raise SettingError(f"no execution of {task} is known to have had child processes.")
        return CHILDREN + task
    nodes = [NODE + node for node in (*run.masters, *run.nodes)]
    known = nodes if target.startswith(NODE) else run.targets
    if not known and run.has_records and not target.startswith(NODE):
        raise SettingError(f"{run.folder} has no task records: start the program with --python_memory_profile.")
    found = [target] if target in known else [name for name in known if name.endswith(target)]
    if len(found) == 1:
        return found[0]
    kind = "node" if target.startswith(NODE) else "task"
    what = f"{target!r} fits several tasks of the run" if found else f"the run has no {kind} {target!r}"
    if not known:
        raise SettingError(f"{what}: {run.title} has no tasks. {WHOLE_RUN} and {', '.join(nodes)} can be measured.")
    listed = found or known
    more = f", and {len(listed) - _MOST_LISTED} more" if len(listed) > _MOST_LISTED else ""
    raise SettingError(f"{what}; name one of: {', '.join(listed[:_MOST_LISTED])}{more}")


def job_of_run(run: MeasuredRun, choices: Iterable[MetricChoice]) -> Job:
    """Return the Job of a run; for a missing measurement ``meta`` has the reason.

    Raises SettingError if two choices have the same name.
    """
    job = Job(meta={"run": run.title, "lines_skipped": sum(run.skipped.values())})
    for choice in choices:
        if str(choice.name) in job.metrics:
            raise SettingError(f"two metrics are named {choice.name}: give them different names")
        try:
            measurement = measure(run, choice)
        except (NoWorkFound, MetricComputationError) as error:
            unit = "byte" if _is_of_memory(choice) else "s"
            job.metrics.insert(Metric(choice.name, _description(choice), unit, _tags(unit)))
            job.not_measured(choice.name, str(error))
            continue
        job.metrics.insert(Metric(choice.name, _description(choice), measurement.unit, _tags(measurement.unit)))
        job.insert(measurement)
    return job


def measure(run: MeasuredRun, choice: MetricChoice) -> Measurement:
    """Measure one metric, with notes on the method.

    Raises NoWorkFound if the run has no data for it; the message gives the reason. Raises MetricComputationError if the
    data is malformed.
    """
    if choice.problem is not None:
        raise NoWorkFound(choice.problem)
    if not _is_of_memory(choice) and (choice.target == WHOLE_RUN or choice.target.startswith((NODE, CHILDREN))):
        raise NoWorkFound(
            f"{type(choice.task).__name__} measures tasks; for {choice.target} there is only memory: configure a "
            f"{MemoryMetricTask.__name__} for it"
        )
    if choice.target == WHOLE_RUN:
        measurement = _of_whole_run(run, choice)
    elif choice.target.startswith(NODE):
        measurement = _of_node(run, choice, choice.target.removeprefix(NODE))
    elif choice.target.startswith(CHILDREN):
        measurement = _of_children(run, choice)
    elif run.has_records:
        records = [record for record in run.records if record.target == choice.target]
        measurement = (choice.task or _memory_task(choice)).run(metadata_from_records(records)).measurement
    elif not _is_of_memory(choice):
        raise NoWorkFound(f"{type(choice.task).__name__} needs the records of a run: traces have no times of calls")
    else:
        measurement = _of_brackets(run, choice)
    measurement.notes |= {
        "target": choice.target,
        "run": run.title,
        "lines_skipped": sum(run.skipped.values()),
    }
    return measurement


def _memory_task(choice: MetricChoice) -> MemoryMetricTask:
    config = MemoryMetricTask.ConfigClass()
    config.connections.package, config.connections.metric = choice.name.package, choice.name.metric
    config.target = choice.target
    return MemoryMetricTask(config=config)


def _of_children(run: MeasuredRun, choice: MetricChoice) -> Measurement:
    target = choice.target.removeprefix(CHILDREN)
    records = [record for record in run.records if record.target == target and record.children_method is not None]
    known = [(record.children_peak_bytes, record) for record in records if record.children_peak_bytes is not None]
    if not known:
        raise NoWorkFound(next((r.reason for r in records if r.reason), "the child processes ended before a sample"))
    peak, highest = max(known, key=lambda pair: pair[0])
    notes: JsonObject = {
        "estimator": "the child processes of each execution, sampled or by the kernel's mark of one",
        "method": f"{highest.children_method}{', shared' if highest.shared else ''}",
        "command": highest.children_command,
        "executions": len(records),
        "missed": len(records) - len(known),
    }
    metric = next((trace.metric for trace in run.traces.values()), "rss")
    if metric == "rss" and highest.children_method == "sampled" and highest.children_command == FORKED:
        notes |= _SHARED_PAGES
    elif any(record.children_method != "hwm" for record in records):  # one of these may have had more
        notes["bound"] = LOWER
    return Measurement(choice.name, peak, "byte", notes)


def _of_node(run: MeasuredRun, choice: MetricChoice, node: str) -> Measurement:
    peak = run.node_peak(node)
    if peak is None:
        has_trace = node in run.traces
        raise NoWorkFound(
            f"the trace of {node} has no total (no MEM line)" if has_trace else f"there is no trace of {node}"
        )
    notes = _trace_notes(run, peak, [node]) | {"trace": run.files[node]}
    return Measurement(choice.name, peak.peak_bytes, "byte", notes)


def _of_whole_run(run: MeasuredRun, choice: MetricChoice) -> Measurement:
    peak = run.run_peak()
    if peak is None and len(run.masters) > 1:
        raise NoWorkFound(f"there are {len(run.masters)} traces of programs and none of a node: they are not one run")
    if peak is None:
        advice = ". Start the program with --python_memory_profile to measure memory" if run.has_records else ""
        if run.has_records and run.masters and not run.targets:
            raise NoWorkFound("no task ran, so there is no trace of a node; the program itself is node:master")
        raise NoWorkFound(f"there is no trace with the memory of a node (no MEM line){advice}")
    nodes = run.nodes or run.masters
    node_peaks = [found.peak_bytes for node in nodes if (found := run.node_peak(node)) is not None]
    notes = _trace_notes(run, peak, nodes) | {"nodes": len(node_peaks)}
    if len(node_peaks) < len(nodes):
        notes["nodes_without_trace"] = len(nodes) - len(node_peaks)
    if len(node_peaks) > 1:
        notes["value"] = "the highest sum over the nodes at one moment"
        notes["sum_of_node_peaks_bytes"] = sum(node_peaks)
    return Measurement(choice.name, peak.peak_bytes, "byte", notes)


def _of_brackets(run: MeasuredRun, choice: MetricChoice) -> Measurement:
    peaks = run.bracket_peaks(choice.target)
    if not peaks:
        raise NoWorkFound(f"the traces have no task {choice.target} (no FUNC line)")
    highest = max(peaks, key=lambda peak: peak.peak_bytes)
    notes = _trace_notes(run, highest, run.traces) | {
        "executions": len(peaks),
        "value": "the highest total of the trace inside the brackets of the target",
    }
    marking = [t for t in run.traces.values() if any(bracket.name == choice.target for bracket in t.brackets)]
    if any(trace.children for trace in marking):  # the total of one process would be a lower bound
        notes["value"] += ", which includes everything else that ran"
        notes["bound"] = NONE
    return Measurement(choice.name, highest.peak_bytes, "byte", notes)


def _trace_notes(run: MeasuredRun, peak: TracePeak, nodes: Iterable[str]) -> JsonObject:
    """Return notes on a peak from traces."""
    notes: JsonObject = {
        "estimator": ".dat traces",
        "method": "sampled" if peak.time_s is not None else "sampled, of a worker",
        "samples": peak.samples,
    }
    if peak.time_s is not None:
        notes["time_s"] = peak.time_s
    traces = [run.traces[node] for node in nodes if node in run.traces]
    if any(includes_forked(trace, peak.time_s) for trace in traces):
        notes |= _SHARED_PAGES
    said = {note for trace in traces for note in trace.notes}
    if said:
        notes["writer"] = "; ".join(sorted(said))
    return notes


def _description(choice: MetricChoice) -> str:
    if choice.target == WHOLE_RUN:
        return "Highest sum of the memory of all nodes at one moment"
    if choice.target == f"{NODE}master":
        return "Highest memory of the program itself, the master"
    if choice.target.startswith(NODE):
        return f"Highest memory of {choice.target.removeprefix(NODE)}, all processes of the workers there together"
    if choice.target.startswith(CHILDREN):
        return f"Highest memory of the child processes of {choice.target.removeprefix(CHILDREN)}"
    if not _is_of_memory(choice):
        return f"{type(choice.task).__name__} of {choice.target}"
    return f"Highest peak resident set size of {choice.target}"


def _is_of_memory(choice: MetricChoice) -> bool:
    return choice.task is None or isinstance(choice.task, MemoryMetricTask)


def _tags(unit: str) -> tuple[str, ...]:
    return ("memory",) if unit == "byte" else ("time",)


def default_package(run: MeasuredRun) -> str:
    """Return the package of the metrics of a run that is given none: the name of its program."""
    return _word(run.name)


def _package(run: MeasuredRun, package: str | None) -> str:
    return default_package(run) if package is None else checked_part("package", package, "package ")


def _word(text: str) -> str:
    return re.sub(r"[^\w-]", "_", text) or "_"


def camel_case(text: str) -> str:
    """Return the words of `text`, each with a capital, without the characters between them."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", text) if part) or "Task"
