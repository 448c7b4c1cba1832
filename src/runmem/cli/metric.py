"""`runmem metric`: compute the memory of tasks, nodes and runs as measurements for lsst.verify."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runmem.cli.repository_options import Repository, repository_options
from runmem.errors import SettingError

if TYPE_CHECKING:
    from runmem.metrics.from_run import MetricChoice
    from runmem.metrics.measured_run import MeasuredRun
    from runmem.reports.task_rows import TaskRow
    from runmem.verify.job import Job
    from runmem.verify.measurement import Measurement
    from runmem.verify.spec_set import SpecificationSet

__all__ = ["command"]

_SPECIFICATION_FAILED = 3  # exit code


@click.command("metric")
@click.argument("runs", metavar="RUN...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="MODULE.TASK",
    help="A task, by its name or an unambiguous end of it; children:TASK; node:NAME; node:master; whole-run. "
    "Repeatable.  [default: all of these]",
)
@click.option("--package", help="First part of the metrics' names, without a dot.  [default: the program's name]")
@click.option("--metric", "metric_name", help="Second part of the metric's name, without a dot; for a single target.")
@click.option(
    "--config",
    "configs",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="YAML file of configured metrics, in place of --target and --metric. Repeatable.",
)
@click.option(
    "--spec",
    "specs",
    multiple=True,
    metavar="SPEC",
    help='A specification, such as "demo.CountWordsMemory<500 MiB", or a YAML file of them. Repeatable.',
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Job file to write.  [default: RUN/metrics/PACKAGE.METRIC.json, or PACKAGE.json for several metrics]",
)
@repository_options
@click.option("--tasks", metavar="LABELS", help="With --butler: labels of the tasks to measure, with commas.")
@click.option("--json", "as_json", is_flag=True, help="Print the Job (a list for several RUNs) instead of the table.")
def command(
    runs: tuple[Path, ...],
    targets: tuple[str, ...],
    package: str | None,
    metric_name: str | None,
    configs: tuple[Path, ...],
    specs: tuple[str, ...],
    output: Path | None,
    repository: Repository | None,
    tasks: str | None,
    as_json: bool,
) -> None:
    """Compute the memory of tasks, nodes and whole runs in bytes, and check it against specifications.

    RUN is a run directory (runmem_runs/wordcount_01) or its run.json, a .dat trace of mprof or PyCOMPSs, or a folder of
    these; .dat files given together are the nodes of one run. Without --target or --config, all tasks, nodes and the
    whole run are measured. The measurements are printed, and written as a Job, the JSON format of lsst.verify. With
    --butler the tasks are those of a repository of LSST (docs/lsst.md), and the Job is metrics/PACKAGE.json.

    \b
    Examples:
      runmem --python_memory_profile wordcount.py
      runmem metric runmem_runs/wordcount_01
      runmem metric runmem_runs/wordcount_01 --target wordcount.count_words \\
          --package demo --metric CountWordsMemory
      runmem metric runmem_runs/wordcount_01 --config metrics.yaml
      runmem metric runmem_runs/wordcount_01 --package demo --spec "demo.CountWordsMemory<500 MiB"
      runmem metric --butler repo --collections u/me/run --package demo --spec "demo.IsrMemory<4 GiB"

    The exit code is 0; with --spec it is 3 if a specification fails or its metric has no measurement. Units are
    astropy's: MiB is 2**20 byte, MB 10**6.

    The peak of a task is the kernel's high-water mark between its start and its end (hwm). Without that mark it is the
    highest sample (sampled, a lower bound). If another task overlapped in the same process it is shared (an upper
    bound). The output counts the peaks of each kind and the missing ones.

    The peak of a node is the highest sum over its processes (sampled); the peak of the whole run is the highest sum
    over the nodes at one time, which is at most the sum of their peaks. The program itself is reported as the master.
    """
    from runmem.metrics.measured_run import read_measured_runs
    from runmem.store.output import check_output

    if output is not None:
        check_output(output, "--output")
    if configs and (targets or metric_name is not None or package is not None):
        raise SettingError("--config sets package, metric and target: omit --package, --metric and --target")
    if repository is not None:
        _refuse_beside_butler(runs, targets, metric_name, configs)
        _measure_repository(repository.with_tasks(tasks), package, specs, output, as_json)
        return
    _check_run_given(runs, tasks)
    measured = read_measured_runs(runs)
    if output is not None and len(measured) > 1:
        raise SettingError(f"--output {output} is one file, but each of the {len(measured)} runs has its own Job")
    from runmem.metrics.from_run import default_package

    names = {default_package(run) for run in measured} if not configs else set()
    wanted = _specifications(specs, package or (names.pop() if len(names) == 1 else None))
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
            click.echo("\n".join([*_lines(run, job, bool(targets)), f"Written to {path}"]))
    if not all(job.report().passed for _, job, _ in jobs):
        click.get_current_context().exit(_SPECIFICATION_FAILED)


def _refuse_beside_butler(
    runs: Sequence[Path], targets: Sequence[str], metric_name: str | None, configs: Sequence[Path]
) -> None:
    if runs or targets or configs or metric_name is not None:
        raise SettingError("--butler measures the tasks of a repository: omit RUN, --target, --metric and --config")


def _check_run_given(runs: Sequence[Path], tasks: str | None) -> None:
    if tasks is not None:
        raise SettingError("--tasks needs --butler REPO; the tasks of a run are chosen with --target")
    if not runs:
        raise click.UsageError("Missing argument 'RUN...'.")


def _measure_repository(
    repository: Repository, package: str | None, specs: Sequence[str], output: Path | None, as_json: bool
) -> None:
    """Measure the tasks of a repository, print and write the Job; exits with code 3 if a specification fails."""
    from runmem.metrics.from_repository import job_of_usages, package_of
    from runmem.table import terminal_width

    package = package_of(repository.uri, package)
    wanted = _specifications(specs, package)
    usages, remarks = repository.read()
    job = job_of_usages(package, usages)
    _add_specifications(job, wanted)
    path = job.write(output or Path("metrics") / f"{package}.json")
    if as_json:
        click.echo(json.dumps(job.json, indent=1))
    else:
        lines = [f"{repository.uri}:", *_table(job), *remarks]
        if wanted:
            lines += ["", *job.report().lines(terminal_width())]
        click.echo("\n".join([*lines, f"Written to {path}"]))
    if not job.report().passed:
        click.get_current_context().exit(_SPECIFICATION_FAILED)


def _specifications(specs: Sequence[str], package: str | None) -> SpecificationSet:
    """Read the specifications; further limits on the same metric and operator get numbered names."""
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
            raise SettingError(f"--spec {text} contains no specification")
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
        raise SettingError(f"--metric {metric_name} needs a --target: a task, node:NAME or whole-run")
    return all_choices(run, package)


def _job(run: MeasuredRun, choices: Sequence[MetricChoice], specs: SpecificationSet, is_named: bool) -> Job:
    """Return the Job of a run with the specifications.

    Raises
    ------
    MetricComputationError
        If no target, or not every target given by name, can be measured, and there are no specifications.
    """
    from runmem.metrics.from_run import job_of_run, measure

    job = job_of_run(run, choices)
    _add_specifications(job, specs)
    missing = [choice for choice in choices if choice.name not in job]
    if missing and not specs and (is_named or len(missing) == len(choices)):
        measure(run, missing[0])  # raises the error
    return job


def _add_specifications(job: Job, specs: SpecificationSet) -> None:
    """Add specifications, with the reason for those whose metric does not exist."""
    job.specs.update(specs)
    for spec in specs.values():
        if spec.metric_name not in job.metrics:
            job.not_measured(spec.metric_name, f"no metric has this name; there are {', '.join(job.metrics)}")


def _default_output(run: MeasuredRun, choices: Sequence[MetricChoice]) -> Path:
    packages = list(dict.fromkeys(str(choice.name.package) for choice in choices))
    name = choices[0].name if len(choices) == 1 else "_".join(packages)
    return run.folder / "metrics" / f"{name}.json"


def _lines(run: MeasuredRun, job: Job, is_named: bool) -> list[str]:
    """Format a Job: a single measurement of a task in full, several as a table."""
    from runmem.reports.sections import lines_skipped
    from runmem.reports.task_rows import task_rows
    from runmem.table import printable, terminal_width

    found = list(job.measurements.values())
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
    """Format one line per metric, then the metrics without a measurement and the reason."""
    from runmem.table import TableColumn, lay_out, printable, terminal_width
    from runmem.verify.bounds import NONE
    from runmem.verify.job import NOT_MEASURED_KEY

    columns = [
        TableColumn("Metric", flexible=True),
        TableColumn("Value", right=True),
        TableColumn("Method", text=True),
        TableColumn("Target", flexible=True),
    ]
    found = job.measurements.values()
    rows = [[m.metric_name, _value(m), str(m.notes.get("method", "-")), str(m.notes["target"])] for m in found]
    reasons = {name: job.meta.get(f"{name}.{NOT_MEASURED_KEY}") for name in job.metrics if name not in job}
    rows += [[name, "-", "-", "-"] for name in reasons]
    lines = lay_out(columns, rows, terminal_width()) + [
        f"  {name}: {printable(str(reason))}" for name, reason in reasons.items()
    ]
    explained = False
    for measurement in found:
        if missing := measurement.notes.get("peaks_missing"):
            executions = measurement.notes["executions"]
            lines.append(f"  {measurement.metric_name}: {missing} of {executions} executions have no measured peak")
        if shared_pages := measurement.notes.get("shared_pages"):
            lines.append(f"  {measurement.metric_name}: {shared_pages} (--memory_metric=pss divides it)")
        elif measurement.notes.get("bound") == NONE and not explained:
            explained = True
            lines.append("  ~ the total of the trace while the task ran, including everything else that ran then")
        if missing := measurement.notes.get("nodes_without_trace"):
            lines.append(f"  {measurement.metric_name}: {missing} nodes have no trace and are not included")
    return lines


def _value(measurement: Measurement) -> str:
    """Format a value with its kind of bound."""
    from runmem.units import format_bytes
    from runmem.verify.bounds import bound_of

    size = format_bytes(measurement.value) if measurement.unit == "byte" else None
    return bound_of(measurement.notes) + (size or f"{measurement.value:.6g} {measurement.unit}")


def _task_lines(measurement: Measurement, row: TaskRow) -> list[str]:
    """Format the value of a task with its calls, peaks and method."""
    again = f", {row.executions} executions" if row.executions != row.calls else ""
    ends = [f"{count} {what}" for what, count in (("failed", row.failed), ("killed", row.killed)) if count]
    kinds = ("exact", "sampled", "shared", "recorded", "unclear", "missing")
    peaks = ", ".join(f"{count} {kind}" for kind in kinds if (count := getattr(row, kind)))
    lines = [
        str(measurement),
        f"  target   {row.target}",
        f"  calls    {row.calls}{again}" + (f" ({', '.join(ends)})" if ends else ""),
        f"  peaks    {peaks}; the highest by {measurement.notes['method']}, on {row.max_node}",
    ]
    return lines + ([f"  value    {measurement.notes['values']}"] if "values" in measurement.notes else [])
