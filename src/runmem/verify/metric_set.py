"""A set of metrics, read from the YAML files of a package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import yaml

from runmem.errors import SettingError
from runmem.reading import JsonObject, parse_yaml
from runmem.store.output import write_file
from runmem.verify.metric import Metric
from runmem.verify.name import Name
from runmem.verify.named_items import ItemSet, html_table
from runmem.verify.yaml_file import YAML_SUFFIXES, package_folder, read_documents

__all__ = ["MetricSet"]


class MetricSet(ItemSet[Metric]):
    """Metrics by their names, ``package.metric``.

    Parameters
    ----------
    metrics : iterable of Metric, optional

    Raises
    ------
    VerifyTypeError
        (a `ValueError` and a `TypeError`) For another object.
    """

    _kind = Metric
    _advice = "give a Metric"
    _called = ("Metric", "Metrics")

    def __init__(self, metrics: Iterable[Metric] | None = None) -> None:
        super().__init__(metrics)

    # -- reading --

    @classmethod
    def load_metrics_package(
        cls, package_name_or_path: Path | str = "verify_metrics", subset: str | None = None
    ) -> MetricSet:
        """Return the metrics of the YAML files in the folder ``metrics`` of a package.

        Parameters
        ----------
        package_name_or_path : path
            A folder, an EUPS package that is set up, or a Python package.
        subset : str, optional
            Only the metrics of this package, in ``metrics/<subset>.yaml``.

        Raises
        ------
        SettingError
            If there is no such folder or file, or a definition is not valid.
        """
        folder = package_folder(package_name_or_path, "metrics")
        files = [path for path in sorted(folder.iterdir()) if path.suffix in YAML_SUFFIXES]
        if subset is not None:
            files = [path for path in files if path.stem == subset] or [folder / f"{subset}.yaml"]
        for first, second in pairwise(files):
            if first.stem == second.stem:
                raise SettingError(f"{first} and {second.name} are of the same package: keep one of them")
        return cls(metric for file in files for metric in cls.load_single_package(file).values())

    @classmethod
    def load_single_package(cls, metrics_yaml_path: Path | str) -> MetricSet:
        """Return the metrics of one YAML file, which is named after their package.

        Raises
        ------
        SettingError
            If the file cannot be read, or a definition in it is not valid.
        """
        path = Path(metrics_yaml_path)
        found = cls()
        for document in read_documents(path):
            try:
                metrics = cls.parse(document, path.stem)
                if again := [name for name in metrics if name in found]:
                    raise SettingError(f"metric {str(again[0])!r} is in two documents of the file")
                found.update(metrics)
            except SettingError as error:
                raise SettingError(f"{path}: {error}") from error
        return found

    @classmethod
    def parse(cls, definitions: JsonObject | str, package: str) -> MetricSet:
        """Return the metrics of a YAML text or of its content.

        Parameters
        ----------
        definitions : str or mapping
            Name of the metric (without its package) to ``description``, ``unit``, ``tags``, ``reference``.
        package : str

        Raises
        ------
        SettingError
            For a text that is not YAML or has a key twice, and for a definition that is not valid, which is named.
        """
        content = _content(definitions) if isinstance(definitions, str) else definitions
        if not isinstance(content, Mapping):
            raise SettingError(f"expected names of metrics, each with description and unit, not {content!r}")
        found = cls()
        for name, definition in content.items():
            if not isinstance(definition, Mapping):
                raise SettingError(f"metric {name!r} is {definition!r}: give it a description and a unit")
            fields = {key: value for key, value in definition.items() if key != "name"}
            missing = [key for key in ("description", "unit") if fields.get(key) is None]
            if missing:
                raise SettingError(f"metric {name!r} has no {' and no '.join(missing)}")
            try:
                found.insert(Metric.deserialize(Name(package, str(name)), **fields))
            except TypeError as error:
                raise SettingError(f"metric {name!r}: {error}") from error
        return found

    @classmethod
    def deserialize(cls, metrics: Iterable[JsonObject] | None = None) -> MetricSet:
        """Return the metrics of documents from `json`."""
        return cls(Metric.deserialize(**document) for document in metrics or ())

    # -- writing --

    def write(self, folder: Path | str) -> list[Path]:
        """Write ``metrics/<package>.yaml`` below `folder` for each package, and return the files.

        Raises
        ------
        SettingError
            If they cannot be written.
        """
        place, written = Path(folder) / "metrics", []
        try:
            place.mkdir(parents=True, exist_ok=True)
            if relative := [name for name, metric in self.items() if metric.name.package is None]:
                raise SettingError(f"metric {str(relative[0])!r} has no package, which names its file")
            for package in sorted({str(metric.name.package) for metric in self.values()}):
                own = {str(m.name.metric): m.definition for m in self.subset(package).values()}
                path = place / f"{package}.yaml"
                write_file(path, yaml.safe_dump(own, sort_keys=False, allow_unicode=True, width=120))
                written.append(path)
        except OSError as error:
            raise SettingError(f"metrics cannot be written to {place}: {error.strerror or error}") from error
        return written

    # -- content --

    def _name_of(self, item: Metric) -> Name:
        return item.name

    def subset(self, package: str | None = None, tags: Iterable[str] | None = None) -> MetricSet:
        """Return the metrics of a package with all the tags; without arguments all metrics."""
        wanted = set(tags or ())
        return MetricSet(
            metric
            for metric in self.values()
            if (package is None or metric.name.package == package) and wanted <= metric.tags
        )

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        rows = [
            [str(name), metric.description, metric.unit, metric.reference, ", ".join(sorted(metric.tags))]
            for name, metric in sorted(self.items())
        ]
        return html_table(["Name", "Description", "Units", "Reference", "Tags"], rows)


def _content(text: str) -> object:
    """Return the content of a YAML text; of several documents a list, which is not valid."""
    try:
        documents = parse_yaml(text)
    except ValueError as error:
        raise SettingError(f"the definitions are not YAML: {error}") from error
    return documents[0] if len(documents) == 1 else documents
