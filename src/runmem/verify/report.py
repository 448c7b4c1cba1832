"""Check measurements against their specifications."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape

from runmem.reading import JsonObject
from runmem.table import TableColumn, lay_out
from runmem.verify import quantity as quantities
from runmem.verify.measurement import Measurement
from runmem.verify.spec import ThresholdSpecification

__all__ = ["FAILED", "NOT_MEASURED", "PASSED", "Report", "ReportRow", "judge"]

PASSED, FAILED, NOT_MEASURED = "passed", "failed", "not measured"
_TITLES = ("Status", "Specification", "Measurement", "Test", "Metric tags", "Spec. tags", "Reason")
_NAMES, _SENTENCES = {"Specification"}, {"Metric tags", "Spec. tags", "Reason"}


@dataclass(frozen=True)
class ReportRow:
    """The result for one specification.

    Attributes
    ----------
    status : str
        ``passed``, ``failed`` or ``not measured``.
    specification : str
        ``package.metric.specification``.
    measurement : str
        The value with its unit; ``-`` without one.
    test : str
        Such as ``< 500 MiB``.
    metric_tags, spec_tags : tuple of str
    reason : str or None
        Why there is no measurement, or why it cannot be compared.
    """

    status: str
    specification: str
    measurement: str
    test: str
    metric_tags: tuple[str, ...] = ()
    spec_tags: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Report:
    """The results for all specifications, in the order of their names."""

    rows: tuple[ReportRow, ...]

    @property
    def passed(self) -> bool:
        """Whether every specification passed; a missing measurement does not pass."""
        return all(row.status == PASSED for row in self.rows)

    def as_dicts(self) -> list[JsonObject]:
        """Return a dictionary for each row, for JSON and for tables of other libraries."""
        return [asdict(row) for row in self.rows]

    def table(self) -> list[list[str]]:
        """Return the titles and the rows as texts, without empty columns."""
        cells = []
        for row in self.rows:
            tags = [", ".join(row.metric_tags), ", ".join(row.spec_tags)]
            cells.append([row.status, row.specification, row.measurement, row.test, *tags, row.reason or ""])
        kept = [at for at in range(len(_TITLES)) if at < 4 or any(row[at] for row in cells)]
        return [[line[at] for at in kept] for line in ([*_TITLES], *cells)]

    def lines(self, width: int | None = None) -> list[str]:
        """Return the table as lines of at most `width` characters, by default of any length."""
        head, *rows = self.table()
        columns = [TableColumn(title, flexible=title in _NAMES, text=title in _SENTENCES) for title in head]
        return lay_out(columns, rows, width, keys=2)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        head, *rows = self.table()
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def judge(
    specs: Iterable[ThresholdSpecification],
    measurements: Mapping[str, Measurement],
    tags: Mapping[str, Sequence[str]],
    reasons: Mapping[str, str],
) -> Report:
    """Check `specs`.

    Parameters
    ----------
    measurements : mapping
        Name of the metric to its measurement.
    tags : mapping
        Name of the metric to its tags.
    reasons : mapping
        Name of the metric to the reason why it could not be measured.

    Notes
    -----
    Limitation: a lower bound (sampled) may pass ``<`` although the true value does not; the measurement's notes tell
    how it was measured.
    """
    rows = []
    for spec in sorted(specs, key=lambda spec: spec.name):
        name = str(spec.metric_name)
        measurement = measurements.get(name)
        status, reason = _outcome(spec, measurement, reasons.get(name))
        value = quantities.text_of(measurement.value, measurement.unit) if measurement else "-"
        metric_tags = tuple(sorted(tags.get(name, ())))
        rows.append(ReportRow(status, str(spec.name), value, spec.test, metric_tags, tuple(sorted(spec.tags)), reason))
    return Report(tuple(rows))


def _outcome(spec: ThresholdSpecification, measured: Measurement | None, known: str | None) -> tuple[str, str | None]:
    if measured is None:
        return NOT_MEASURED, known or f"there is no measurement of {spec.metric_name}"
    if measured.value is None or measured.value != measured.value:
        return NOT_MEASURED, known or str(measured.notes.get("reason") or "no reason is recorded")
    try:
        passed = spec.check(quantities.Quantity(measured.value, measured.unit))
    except quantities.UnitError as error:
        return FAILED, str(error)
    return (PASSED if passed else FAILED), None
