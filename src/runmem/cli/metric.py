"""`runmem metric`: the memory of tasks, nodes and runs as measurements that lsst.verify reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runmem.errors import SettingError

if TYPE_CHECKING:
    from runmem.metrics.from_run import MetricChoice
    from runmem.metrics.measured_run import MeasuredRun
    from runmem.reports.task_rows import TaskRow
    from runmem.verify.job import Job
    from runmem.verify.measurement import Measurement
    from runmem.verify.spec_set import SpecificationSet

__all__ = ["command"]

_FAILED = 3


@click.command("metric")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--target", "targets", multiple=True, metavar="MODULE.TASK",
              help="A task, or as much of the end of its name as is unambiguous; node:NAME; node:master; whole-run. "
                   "Repeatable.  [default: all of these]")  # fmt: skip
@click.option("--package", help="First part of the metrics' names; without a dot.  [default: the program's name]")
@click.option("--metric", "metric_name", help="Second part of the metric's name, of a single target; without a dot.")
@click.option("--config", "configs", multiple=True, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="YAML file of configured metrics, in place of --target and --metric. Repeatable.")  # fmt: skip
@click.option("--spec", "specs", multiple=True, metavar="SPEC",
              help='What must hold: "demo.CountWordsMemory<500 MiB", or a YAML file of specifications. '
                   "Repeatable.")  # fmt: skip
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Job file to write.  [default: RUN/metrics/PACKAGE.METRIC.json; of several, PACKAGE.json]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the Job (of several RUNs: a list) instead of the table.")
def command(
    runs: tuple[Path, ...],
    targets: tuple[str, ...],
    package: str | None,
    metric_name: str | None,
    configs: tuple[Path, ...],
    specs: tuple[str, ...],
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure the memory of tasks, of nodes, and of a whole run, in bytes; and tell whether it is as specified.

    RUN is a run directory (runmem_runs/wordcount_01) or its run.json, a .dat trace of mprof or PyCOMPSs, or a folder of
    these; .dat files named together are the nodes of one run. Without --target or --config all is measured that the run
    holds. The measurements are printed, and written as a Job, the JSON that lsst.verify reads.

    \b
    Examples:
      runmem --python_memory_profile wordcount.py
      runmem metric runmem_runs/wordcount_01
      runmem metric runmem_runs/wordcount_01 --target wordcount.count_words \\
          --package demo --metric CountWordsMemory
      runmem metric runmem_runs/wordcount_01 --config metrics.yaml
      runmem metric runmem_runs/wordcount_01 --package demo --spec "demo.CountWordsMemory<500 MiB"

    The exit code is 0, and with --spec 3 if a specification fails or its metric has no measurement. Units are
    astropy's: MiB is 2**20 byte, MB 10**6.

    The peak of a task is its own: the kernel's high-water mark between its start and its end (hwm). Where that could
    not be had it is the highest sample (sampled, a lower bound); where another task overlapped in the same process
    it is shared (an upper bound). The output says how many there were of each, and how many had no peak.

    The peak of a node is that of all its processes together (sampled); that of the whole run is the highest sum over
    the nodes at one moment, which is less than the sum of their peaks. The program itself is the master, apart.
    """
    from runmem.metrics.measured_run import read_measured_runs
    from runmem.store.output import check_output

    if output is not None:
        check_output(output, "--output")
    if configs and (targets or metric_name is not None or package is not None):
        raise SettingError("--config names package, metric and target itself: leave --package, --metric, --target out")
    measured = read_measured_runs(runs)
    if output is not None and len(measured) > 1:
        raise SettingError(f"--output {output} is one file, and each of the {len(measured)} runs has a Job of its own")
    wanted = _specifications(specs, package)
    jobs: list[tuple[MeasuredRun, Job, Path]] = []
    for run in measured:
        choices = _choices(run, targets, package, metric_name, configs)
        job = _job(run, choices, wanted, is_named=bool(targets))
        jobs.append((run, job, job.write(output or _default_output(run, choices))))
    if as_json:
        documents = [job.json for _, job, _ in jobs]
        click.echo(json.dumps(documents if len(documents) > 1 else documents[0], indent=1))
    else:
        for run, job, path in jobs:
            click.echo("\n".join([*_shown(run, job, bool(targets)), f"Written to {path}"]))
    if not all(job.report().passed for _, job, _ in jobs):
        click.get_current_context().exit(_FAILED)


def _specifications(specs: Sequence[str], package: str | None) -> SpecificationSet:
    """Return what must hold; of several limits on one metric by one operator the later ones are numbered."""
    from runmem.verify.spec import ThresholdSpecification, is_specification_text
    from runmem.verify.spec_set import SpecificationSet

    found = SpecificationSet()
    for text in specs:
        path = Path(text)
        if path.is_file():
            more = list(SpecificationSet.load_file(path, package).values())
        elif path.is_dir():
            more = list(SpecificationSet.load_metrics_package(path).values())
        elif is_specification_text(text):
            more = [ThresholdSpecification.parse(text, package)]
        else:
            raise SettingError(f'--spec {text!r} is neither a file nor a specification such as "demo.Peak<500 MiB"')
        if not more:
            raise SettingError(f"--spec {text} holds no specification")
        for spec in more:
            name, number = str(spec.name), 1
            while spec.name in found and found[spec.name] != spec:
                number += 1
                spec = ThresholdSpecification(
                    f"{name}_{number}", spec.threshold, spec.operator_str, spec.tags, spec.metadata_query
                )
            found.insert(spec)
    return found


def _choices(
    run: MeasuredRun, targets: Sequence[str], package: str | None, metric_name: str | None, configs: Sequence[Path]
) -> list[MetricChoice]:
    from runmem.metrics.config_file import read_metric_tasks
    from runmem.metrics.from_run import all_choices, chosen, configured

    if configs:
        return configured(run, [task for path in configs for task in read_metric_tasks(path)])
    if targets:
        return chosen(run, targets, package, metric_name)
    if metric_name is not None:
        raise SettingError(f"--metric {metric_name} needs a --target: which task, node:NAME or whole-run is it of?")
    return all_choices(run, package)


def _job(run: MeasuredRun, choices: Sequence[MetricChoice], specs: SpecificationSet, is_named: bool) -> Job:
    """Return the Job of a run with the specifications.

    Raises
    ------
    MetricComputationError
        If nothing could be measured, or one of the targets that were named could not, and nothing is specified.
    """
    from runmem.metrics.from_run import job_of_run, measure

    job = job_of_run(run, choices)
    job.specs.update(specs)
    missing = [choice for choice in choices if choice.name not in job]
    if missing and not specs and (is_named or len(missing) == len(choices)):
        measure(run, missing[0])  # raises what is the matter
    for spec in specs.values():
        if all(choice.name != spec.metric_name for choice in choices):
            known = ", ".join(choice.name for choice in choices)
            job.not_measured(spec.metric_name, f"no metric of that name was asked for; there are {known}")
    return job


def _default_output(run: MeasuredRun, choices: Sequence[MetricChoice]) -> Path:
    packages = list(dict.fromkeys(choice.name.package for choice in choices))
    name = choices[0].name if len(choices) == 1 else "_".join(packages)
    return run.folder / "metrics" / f"{name}.json"


def _shown(run: MeasuredRun, job: Job, is_named: bool) -> list[str]:
    """Return what a person reads of a Job: one measurement of a task in full, several as a table."""
    from runmem.reports.sections import lines_skipped
    from runmem.reports.task_rows import task_rows
    from runmem.table import printable, terminal_width

    found = job.measurements
    if is_named and len(job.metrics) == 1 and found and run.has_records and found[0].notes["target"] in run.targets:
        records = [record for record in run.records if record.target == found[0].notes["target"]]
        lines = _task_lines(found[0], task_rows(records)[0])
        lines += [f"  files    {file}: {lines_skipped(count)}" for file, count in run.skipped.items()]
    else:
        lines = [f"{run.title}:", *_table(job)]
        lines += [f"{file}: {lines_skipped(count)}" for file, count in run.skipped.items()]
    lines += map(printable, run.refused)
    if job.specs:
        lines += ["", *job.report().lines(terminal_width())]
    return lines


def _table(job: Job) -> list[str]:
    """Return a line a metric, those without a measurement last, with the reason."""
    from runmem.table import TableColumn, lay_out, printable, terminal_width
    from runmem.verify.job import NOT_MEASURED_KEY

    columns = [
        TableColumn("Metric", flexible=True),
        TableColumn("Value", right=True),
        TableColumn("Method", text=True),
        TableColumn("Target", flexible=True),
    ]
    rows = [
        [m.metric_name, _value(m), str(m.notes.get("method", "-")), str(m.notes["target"])] for m in job.measurements
    ]
    reasons = {name: job.meta.get(f"{name}.{NOT_MEASURED_KEY}") for name in job.metrics if name not in job}
    rows += [[name, "-", "-", "-"] for name in reasons]
    lines = lay_out(columns, rows, terminal_width()) + [
        f"  {name}: {printable(str(reason))}" for name, reason in reasons.items()
    ]
    explained = False
    for measurement in job.measurements:
        if missing := measurement.notes.get("peaks_missing"):
            executions = measurement.notes["executions"]
            lines.append(f"  {measurement.metric_name}: {missing} of {executions} executions have no measured peak")
        if measurement.notes.get("bound") == "none" and not explained:
            explained = True
            lines.append("  ~ the total of the trace while the task ran: what else ran then is in it")
        if missing := measurement.notes.get("nodes_without_trace"):
            lines.append(f"  {measurement.metric_name}: {missing} nodes have no trace and are not in it")
    return lines


def _value(measurement: Measurement) -> str:
    """Return a value with the mark of a bound of what is measured: ``>=`` sampled, ``<=`` shared, ``~`` neither bound.

    The total of a trace is a lower bound of the node's peak, and no bound of that of a task which ran at the time.
    """
    from runmem.units import format_bytes

    if measurement.unit != "byte":
        return f"{measurement.value:.6g} {measurement.unit}"
    method = str(measurement.notes.get("method", ""))
    sampled = "sampled" in method
    is_sum = str(measurement.notes.get("writer", "")).startswith("rss-sum")
    no_bound = "shared" in method or is_sum or measurement.notes.get("bound") == "none"
    mark = ("~" if no_bound else ">=") if sampled else "<=" if no_bound else ""
    return mark + format_bytes(measurement.value)


def _task_lines(measurement: Measurement, row: TaskRow) -> list[str]:
    """Return what a person wants to know of how the value of a task came about."""
    again = f", {row.executions} executions" if row.executions != row.calls else ""
    ends = [f"{count} {what}" for what, count in (("failed", row.failed), ("killed", row.killed)) if count]
    kinds = ("exact", "sampled", "shared", "unclear", "missing")
    peaks = ", ".join(f"{count} {kind}" for kind in kinds if (count := getattr(row, kind)))
    lines = [
        str(measurement),
        f"  target   {row.target}",
        f"  calls    {row.calls}{again}" + (f" ({', '.join(ends)})" if ends else ""),
        f"  peaks    {peaks}; the highest by {measurement.notes['method']}, on {row.max_node}",
    ]
    return lines + ([f"  value    {measurement.notes['values']}"] if "values" in measurement.notes else [])
