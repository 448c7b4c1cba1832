"""Check measurements against their specifications."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from runmem.errors import SettingError
from runmem.reading import JsonObject
from runmem.table import TableColumn, lay_out
from runmem.verify import quantity as quantities
from runmem.verify.bounds import doubt_of
from runmem.verify.measurement import Measurement
from runmem.verify.metric import Metric
from runmem.verify.named_items import html_table
from runmem.verify.spec import ThresholdSpecification

if TYPE_CHECKING:
    from runmem.verify.spec_set import SpecificationSet

__all__ = ["FAILED", "NOT_MEASURED", "PASSED", "Report", "ReportRow"]

PASSED, FAILED, NOT_MEASURED = "passed", "failed", "not measured"
_TITLES = ("Status", "Specification", "Measurement", "Test", "Metric tags", "Spec. tags", "Reason")
_NAMES, _SENTENCES = {"Specification"}, {"Metric tags", "Spec. tags", "Reason"}
_MOST_NAMED = 5
_SYMBOLS = {PASSED: "\u2705", FAILED: "\u274c"}  # those of lsst.verify


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
        Why there is no measurement, why it cannot be compared, or why the true value may give another result.
    """

    status: str
    specification: str
    measurement: str
    test: str
    metric_tags: tuple[str, ...] = ()
    spec_tags: tuple[str, ...] = ()
    reason: str | None = None


class Report:
    """The results for specifications, in the order of their names.

    Parameters
    ----------
    measurements : MeasurementSet or mapping
        Measurements by the names of their metrics.
    specs : SpecificationSet
        All of them are checked: choose with `SpecificationSet.subset` before.
    metrics : MetricSet or mapping, optional
        Definitions of metrics, for their tags.
    reasons : mapping, optional
        Name of a metric to the reason why it could not be measured.
    not_checked : iterable of str
        Names of specifications that ask for other metadata. The text of the report names them.

    Attributes
    ----------
    rows : tuple of ReportRow
    not_checked : tuple of str

    Notes
    -----
    Limitation: a lower bound (sampled) may pass ``<`` although the true value does not, and an upper one fail; the
    reason says so where the notes of the measurement do.
    """

    def __init__(
        self,
        measurements: Mapping[str, Measurement],
        specs: SpecificationSet,
        metrics: Mapping[str, Metric] | None = None,
        reasons: Mapping[str, str] | None = None,
        not_checked: Iterable[str] = (),
    ) -> None:
        self.not_checked = tuple(map(str, not_checked))
        self._checked: list[tuple[ThresholdSpecification, Measurement | None]] = []
        rows = []
        for spec in sorted(specs.values(), key=lambda spec: spec.name):
            name = spec.metric_name if spec.name.has_metric else None
            measurement = measurements.get(name) if name is not None else None
            metric = measurement.metric if measurement is not None else None
            if metric is None and name is not None:
                metric = (metrics or {}).get(name)
            status, reason = _outcome(spec, measurement, (reasons or {}).get(str(name)))
            value = quantities.text_of(measurement.value, measurement.unit) if measurement else "-"
            tags = tuple(sorted(metric.tags)) if metric else ()
            rows.append(ReportRow(status, str(spec.name), value, spec.test, tags, tuple(sorted(spec.tags)), reason))
            self._checked.append((spec, measurement))
        self.rows = tuple(rows)

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
        return lay_out(columns, rows, width, keys=2) + self._left_out()

    def _left_out(self) -> list[str]:
        """Return a line that names the specifications which were not checked, if there are any."""
        if not self.not_checked:
            return []
        more = len(self.not_checked) - _MOST_NAMED
        named = ", ".join(self.not_checked[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        return [f"not checked, since they ask for metadata that the Job does not have: {named}"]

    def make_table(self) -> Any:
        """Return the table of lsst.verify, an ``astropy.table.Table``.

        Its columns are Status (a symbol, or ``not measured``), Specification, Measurement and Test (in LaTeX), Metric
        Tags and Spec. Tags.

        Raises
        ------
        SettingError
            If astropy is not installed.
        """
        try:
            table_class = import_module("astropy.table").Table
        except ImportError as error:
            raise SettingError("make_table makes a table of astropy: pip install astropy, or use table()") from error
        names = ["Status", "Specification", "Measurement", "Test", "Metric Tags", "Spec. Tags"]
        rows = []
        for row, (spec, measurement) in zip(self.rows, self._checked, strict=True):
            metric_tags = ", ".join(row.metric_tags) if measurement is None or measurement.metric else "N/A"
            rows.append(
                (
                    _SYMBOLS.get(row.status, row.status), row.specification,
                    measurement._repr_latex_() if measurement else "-", spec._repr_latex_(), metric_tags,
                    ", ".join(row.spec_tags),
                )
            )  # fmt: skip
        return table_class(rows=rows, names=names, dtype=[str] * len(names))

    def show(self) -> None:
        """Display the table in a notebook, or print it elsewhere."""
        try:
            ipython = import_module("IPython")
        except ImportError:
            ipython = None
        if ipython is not None and ipython.get_ipython() is not None:
            import_module("IPython.display").display(self)
        else:
            print(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        head, *rows = self.table()
        return html_table(head, rows)


def _outcome(spec: ThresholdSpecification, measured: Measurement | None, known: str | None) -> tuple[str, str | None]:
    if measured is None:
        what = spec.metric_name if spec.name.has_metric else "a metric: the specification names none"
        return NOT_MEASURED, known or f"there is no measurement of {what}"
    if measured.value is None or measured.value != measured.value:
        return NOT_MEASURED, known or str(measured.notes.get("reason") or "no reason is recorded")
    try:
        passed = spec.check(quantities.Quantity(measured.value, measured.unit))
    except quantities.UnitError as error:
        return FAILED, str(error)
    return (PASSED if passed else FAILED), doubt_of(measured.notes, spec.operator_str, passed)
