"""`runmem metric`: the memory of one task as a measurement that lsst.verify reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from runmem.errors import SettingError

if TYPE_CHECKING:
    from runmem.metrics.measurement import Measurement
    from runmem.reports.task_rows import TaskRow
    from runmem.store.run import RunData

__all__ = ["command"]

_MOST_LISTED = 40


@click.command("metric")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--target", required=True, metavar="MODULE.TASK",
              help="The task to measure, or as much of the end of its name as is unambiguous.")  # fmt: skip
@click.option("--package", required=True, help="First part of the metric's name; without a dot.")
@click.option("--metric", "metric_name", required=True, help="Second part of the metric's name; without a dot.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Job file to write. [default: RUN/metrics/PACKAGE.METRIC.json]")  # fmt: skip
def command(run: Path, target: str, package: str, metric_name: str, output: Path | None) -> None:
    """Measure the memory of one task: the highest peak of all its executions in a run, in bytes.

    RUN is a run directory (runmem_runs/wordcount_01) or its run.json. The measurement is printed, and written as
    a Job, the JSON that lsst.verify reads.

    \b
    Example:
      runmem --python_memory_profile wordcount.py
      runmem metric runmem_runs/wordcount_01 --target wordcount.count_words \\
          --package demo --metric CountWordsMemory

    The peak is the task's own: the kernel's high-water mark between its start and its end (hwm). Where that could
    not be had it is the highest sample (sampled, a lower bound); where another task overlapped in the same process
    it is shared (an upper bound). The output says how many there were of each, and how many had no peak.
    """
    from runmem.metrics.from_records import metadata_from_records
    from runmem.metrics.job import Job
    from runmem.metrics.measurement import Measurement, Metric
    from runmem.metrics.memory_metric import MemoryMetricConfig, MemoryMetricConnections, MemoryMetricTask
    from runmem.reports.task_rows import task_rows
    from runmem.store.run import read_run

    data = read_run(run)
    full_target = _full_target(data, target)
    config = MemoryMetricConfig(MemoryMetricConnections(package, metric_name), full_target)
    records = [record for record in data.records if record.target == full_target]
    measurement = MemoryMetricTask(config=config).run(metadata_from_records(records)).measurement
    assert isinstance(measurement, Measurement)
    measurement.notes["target"] = full_target
    measurement.notes["run"] = data.directory.root.resolve().name
    measurement.notes["lines_skipped"] = sum(data.skipped.values())
    definition = Metric(config.metricName, f"Highest peak resident set size of {full_target}", "byte", ("memory",))
    folder = data.directory.root / "metrics"
    path = Job([measurement], [definition]).write(output or folder / f"{config.metricName}.json")
    for line in _lines(measurement, task_rows(records)[0], data.skipped):
        click.echo(line)
    click.echo(f"Written to {path}")


def _full_target(data: RunData, target: str) -> str:
    """Return the one task of the run that `target` names, in full or by the end of its name."""
    targets = sorted({record.target for record in data.records})
    if not targets:
        raise SettingError(
            f"{data.directory.root} has no task records: start the program with --python_memory_profile."
        )
    found = [target] if target in targets else [name for name in targets if name.endswith(target)]
    if len(found) == 1:
        return found[0]
    what = f"{target!r} fits several tasks of the run" if found else f"the run has no task {target!r}"
    listed = found or targets
    more = f", and {len(listed) - _MOST_LISTED} more" if len(listed) > _MOST_LISTED else ""
    raise SettingError(f"{what}; name one of: {', '.join(listed[:_MOST_LISTED])}{more}")


def _lines(measurement: Measurement, row: TaskRow, skipped: dict[str, int]) -> list[str]:
    """Return what a person wants to know of how the value came about."""
    from runmem.reports.sections import lines_skipped

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
    if "values" in measurement.notes:
        lines.append(f"  value    {measurement.notes['values']}")
    return lines + [f"  files    {file}: {lines_skipped(count)}" for file, count in skipped.items()]
