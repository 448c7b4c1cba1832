"""`runmem report`: print and draw the memory of a recorded run or of a single trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runmem.cli.repository_options import Repository, repository_options
from runmem.errors import SettingError

if TYPE_CHECKING:
    from runmem.store.run import RunData

__all__ = ["command"]

_ALL = "*"  # value of --tasks without one


@click.command("report")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--figure",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw memory over time to FILE (.png, .svg or .pdf).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON: bytes, and seconds since the epoch.")
@click.option(
    "--tasks",
    is_flag=False,
    flag_value=_ALL,
    metavar="[LABELS]",
    help="Print one line per execution of a task instead of the summary. With --butler: the labels of the tasks to "
    "report, with commas between them; * and ? are wildcards.",
)
@repository_options
@click.option(
    "--threshold",
    "thresholds",
    metavar="SIZES",
    help="With --butler: count the executions and wall hours above each of these peaks, such as 4GiB,6GiB.",
)
def command(
    run: Path | None,
    figure: Path | None,
    as_json: bool,
    tasks: str | None,
    repository: Repository | None,
    thresholds: str | None,
) -> None:
    """Report the memory of a recorded run per task and per node, and the killed tasks.

    RUN is a run directory (runmem_runs/wordcount_01) or its run.json; without it, the newest run in ./runmem_runs.
    RUN may also be a single .dat file of mprof or PyCOMPSs. With --butler it is the metadata of all quanta in a
    repository of LSST (docs/lsst.md).

    \b
    Examples:
      runmem report                                     the newest run
      runmem report runmem_runs/wordcount_01 --figure memory.png
      runmem report runmem_runs/wordcount_01 --tasks | grep killed
      runmem report node1.dat                           the peak of a trace
      runmem report --butler repo --collections u/me/run --threshold 4GiB,6GiB

    Incomplete, unknown and binary lines of the files are skipped, and their number is printed. An unknown value is
    shown as - (null in JSON), never as 0. The 95th percentile is by nearest rank.
    """
    if figure is not None:
        from runmem.store.output import check_output

        check_output(figure, "--figure")
    if repository is not None:
        _refuse_beside_butler(run, figure)
        _report_repository(repository.with_tasks(tasks), _sizes(thresholds), as_json)
        return
    if thresholds is not None:
        raise SettingError("--threshold needs --butler REPO: the summary of a run has no thresholds")
    if tasks not in (None, _ALL):
        run, tasks = _run_after_tasks(run, str(tasks)), _ALL
    if as_json and tasks:
        raise SettingError("--json and --tasks exclude each other: --json prints the summary, --tasks the executions")
    if run is not None and run.suffix == ".dat" and not run.is_dir():
        _report_trace(run, figure, as_json, tasks is not None)
    else:
        _report_run(_run_data(run), figure, as_json, tasks is not None)


def _run_after_tasks(run: Path | None, word: str) -> Path:
    """Return the run of ``report --tasks RUN``, where click takes it for the value of the option."""
    if run is not None:
        raise SettingError(f"--tasks {word}: labels of tasks need --butler REPO; of a run all tasks are printed")
    return Path(word)


def _refuse_beside_butler(run: Path | None, figure: Path | None) -> None:
    if run is not None:
        raise SettingError(f"--butler and the run {run} exclude each other: give one of them")
    if figure is not None:
        raise SettingError("--figure draws the traces of a run: omit it with --butler")


def _sizes(thresholds: str | None) -> list[int]:
    """Return the thresholds in bytes, ascending."""
    from runmem.units import parse_bytes

    try:
        return sorted({parse_bytes(word) for word in (thresholds or "").split(",") if word.strip()})
    except ValueError as error:
        raise SettingError(f"--threshold {thresholds}: {error}") from error


def _report_repository(repository: Repository, thresholds_bytes: list[int], as_json: bool) -> None:
    from runmem.reports.usage_table import usage_lines
    from runmem.table import terminal_width

    usages, remarks = repository.read()
    if as_json:
        tasks = [usage.as_dict(thresholds_bytes) for usage in usages]
        content = {"repository": repository.uri, "collections": list(repository.collections), "tasks": tasks}
        click.echo(json.dumps({**content, "remarks": remarks}, indent=1))
    else:
        click.echo("\n".join([*usage_lines(usages, thresholds_bytes, terminal_width()), *remarks]))


def _run_data(run: Path | None) -> RunData:
    from runmem.store.run import newest_run, read_run

    if run is not None and not run.exists():
        near = Path("runmem_runs") / run
        advice = (
            f"did you mean {near}?"
            if near.exists()
            else "give a run directory such as runmem_runs/wordcount_01, or a .dat file."
        )
        raise SettingError(f"{run} does not exist: {advice}")
    return read_run(run if run is not None else newest_run(Path("runmem_runs")))


def _report_run(data: RunData, figure: Path | None, as_json: bool, tasks: bool) -> None:
    from runmem.reports.summary import RunSummary

    if tasks:
        from runmem.reports.record_lines import record_lines
        from runmem.reports.sections import lines_skipped
        from runmem.table import printable, terminal_width

        lines = record_lines(data.records, data.provenance.get("started_s"), terminal_width())
        click.echo("\n".join(lines))
        for file, count in data.skipped.items():
            click.echo(f"{file}: {lines_skipped(count)}", err=True)
        for refused in data.refused:
            click.echo(printable(refused), err=True)
    elif as_json:
        click.echo(json.dumps(RunSummary.from_run(data).as_dict(), indent=1))
    else:
        from rich.console import Console

        RunSummary.from_run(data).render(Console(), most_rows=None)
    if figure is not None:
        from runmem.reports.figure import draw, panels_of_run

        title = f"{data.directory.root.resolve().name}: memory over time"
        draw(panels_of_run(data), figure, title, data.provenance.get("started_s"))
        click.echo(f"figure: {figure}", err=as_json or tasks)


def _report_trace(path: Path, figure: Path | None, as_json: bool, tasks: bool) -> None:
    from runmem.reports.trace_summary import TraceSummary

    if tasks:
        raise SettingError(f"--tasks needs a run directory: {path} is a single trace without task records")
    summary = TraceSummary.from_file(path)
    if as_json:
        click.echo(json.dumps(summary.as_dict(), indent=1))
    else:
        from rich.console import Console

        summary.render(Console())
    if figure is not None:
        from runmem.reports.figure import draw, panel_of_trace

        draw([panel_of_trace(path)], figure, f"{path.name}: memory over time")
        click.echo(f"figure: {figure}", err=as_json)
