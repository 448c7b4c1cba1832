"""A set of specifications, read from the YAML files of a package."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runmem.errors import SettingError
from runmem.reading import JsonObject
from runmem.verify.errors import SpecificationResolutionError, VerifyKeyError, VerifyTypeError
from runmem.verify.measurement import Measurement
from runmem.verify.metric import Metric
from runmem.verify.name import Name
from runmem.verify.named_items import ItemSet, html_table
from runmem.verify.report import Report
from runmem.verify.spec import ThresholdSpecification
from runmem.verify.spec_documents import PARTIAL_SIGN, Definition, definitions, merged, resolve
from runmem.verify.yaml_file import YAML_SUFFIXES, package_folder

__all__ = ["SpecificationPartial", "SpecificationSet"]

log = logging.getLogger(__name__)


class SpecificationPartial:
    """A part of specifications, which they inherit.

    Parameters
    ----------
    yaml_doc : dict
        Its content, and its name (``package:place#id``) as ``id``.
    """

    def __init__(self, yaml_doc: Mapping[str, Any]) -> None:
        self.yaml_doc = {key: value for key, value in yaml_doc.items() if key != "id"}
        self.name = str(yaml_doc["id"])

    @property
    def json(self) -> JsonObject:
        """The content without the name."""
        return self.yaml_doc

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SpecificationPartial) and (self.name, self.json) == (other.name, other.json)

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name


class SpecificationSet(ItemSet[ThresholdSpecification]):
    """Specifications by their names, ``package.metric.specification``, and the partials that they inherit.

    Partials are found by their names too, in ``[]`` and ``in``; all else is about specifications only.

    Parameters
    ----------
    specifications : iterable of ThresholdSpecification, optional
    partials : iterable of SpecificationPartial, optional

    Raises
    ------
    VerifyTypeError
        (a `ValueError` and a `TypeError`) For another object.
    """

    _kind = ThresholdSpecification
    _advice = "give a specification, for example from ThresholdSpecification.parse"
    _called = ("Specification", "Specifications")

    def __init__(
        self,
        specifications: Iterable[ThresholdSpecification] | None = None,
        partials: Iterable[SpecificationPartial] | None = None,
    ) -> None:
        super().__init__(specifications)
        self._partials: dict[str, SpecificationPartial] = {}
        for partial in partials or ():
            self[getattr(partial, "name", PARTIAL_SIGN)] = partial  # type: ignore[assignment]

    def _name_of(self, item: ThresholdSpecification) -> Name:
        return item.name

    # -- reading --

    @classmethod
    def load_metrics_package(
        cls, package_name_or_path: Path | str = "verify_metrics", subset: str | None = None
    ) -> SpecificationSet:
        """Return the specifications in the folder ``specs`` of a package, which has a folder for each package.

        Every document becomes a specification or a partial. A YAML file outside of the folders is not read, which is
        logged as a warning.

        Raises
        ------
        SettingError
            If there is no such folder, a specification is not valid, or two have one name.
        SpecificationResolutionError
            (a `SettingError`) If a specification inherits from one that does not exist or from itself, or its name is
            incomplete.
        """
        folder = package_folder(package_name_or_path, "specs")
        content = sorted(folder.iterdir())
        if subset is None and (left := [path.name for path in content if path.suffix in YAML_SUFFIXES]):
            log.warning("%s: not read, since in the folder of no package: %s", folder, ", ".join(left))
        places = [path for path in content if path.is_dir() and subset in (None, path.name)]
        return cls._of(definition for place in places for definition in _definitions_below(place))

    @classmethod
    def load_single_package(cls, package_specs_dirname: Path | str) -> SpecificationSet:
        """Return the specifications of all YAML files below a folder, which is named after their package.

        Raises as `load_metrics_package`.
        """
        return cls._of(_definitions_below(Path(package_specs_dirname)))

    @classmethod
    def load_file(cls, path: Path | str, package: str | None = None) -> SpecificationSet:
        """Return the specifications of one YAML file. Raises as `load_metrics_package`.

        Parameters
        ----------
        package : str, optional
            Default package.
        """
        return cls._of(definitions(Path(path), Path(path).stem, package, is_default=True))

    @classmethod
    def _of(cls, found: Iterable[Definition]) -> SpecificationSet:
        resolved = resolve(found)
        partials = [SpecificationPartial({**document, "id": name}) for name, document in resolved.partials.items()]
        return cls(resolved.specs, partials)

    @classmethod
    def deserialize(cls, specifications: Iterable[JsonObject] | None = None) -> SpecificationSet:
        """Return the specifications of documents from `json`."""
        return cls(ThresholdSpecification.deserialize(**document) for document in specifications or ())

    def resolve_document(self, spec_doc: JsonObject) -> JsonObject:
        """Return a document merged with its bases, which must be in this set.

        Parameters
        ----------
        spec_doc : dict
            With ``base``, a name or a list of names: full ones of partials, and of specifications at least the metric
            and ``package`` in the document.

        Raises
        ------
        SpecificationResolutionError
            If a base is not in the set.
        """
        given = spec_doc.get("base") or []
        built: JsonObject = {}
        for base in [given] if isinstance(given, str) else given:
            name = base if PARTIAL_SIGN in base else Name(spec_doc.get("package"), spec=base)
            if name not in self:
                raise SpecificationResolutionError(
                    f"{spec_doc.get('name')!r} inherits from {str(name)!r}, which is not in {self}"
                )
            built = merged(built, self[name].json)
            if isinstance(name, Name):
                built["metric"] = name.metric
        return merged(built, {key: value for key, value in spec_doc.items() if key != "base"})

    # -- content --

    def __getitem__(self, key: str) -> ThresholdSpecification:
        if _is_partial(key):
            return self._partials[key]  # type: ignore[return-value]
        return super().__getitem__(key)

    def __setitem__(self, key: str, item: ThresholdSpecification) -> None:
        if not _is_partial(key):
            super().__setitem__(key, item)
            return
        if not isinstance(item, SpecificationPartial):
            raise VerifyTypeError(f"cannot store {item!r} as {key!r}: give a SpecificationPartial")
        if item.name != key:
            raise VerifyKeyError(f"cannot store partial {item.name!r} as {key!r}")
        self._partials[key] = item

    def __delitem__(self, key: str) -> None:
        if _is_partial(key):
            del self._partials[key]
        else:
            super().__delitem__(key)

    @property
    def partials(self) -> list[SpecificationPartial]:
        """The partials."""
        return list(self._partials.values())

    def update(self, other: Any = (), /, **more: ThresholdSpecification) -> None:
        """Add the specifications and partials of another set, which replace those with the same names."""
        super().update(other, **more)
        if isinstance(other, SpecificationSet):
            self._partials.update(other._partials)

    def subset(
        self,
        name: str | None = None,
        meta: Mapping[str, Any] | None = None,
        required_meta: Mapping[str, Any] | None = None,
        spec_tags: Iterable[str] | None = None,
        metric_tags: Iterable[str] | None = None,
        metrics: Mapping[str, Metric] | None = None,
    ) -> SpecificationSet:
        """Return the specifications that meet all conditions, and all partials.

        Parameters
        ----------
        name : str or Name, optional
            Package or metric of the specifications, or the name of one.
        meta : mapping, optional
            ``meta`` of a Job, to which the specifications must apply.
        spec_tags, metric_tags : iterable of str, optional
            Tags that the specifications, or their metrics, must have all of.
        required_meta : mapping, optional
            Entries that the specifications must ask for.
        metrics : MetricSet or mapping, optional
            Definitions of the metrics, for `metric_tags`.

        Raises
        ------
        SettingError
            If `metric_tags` is given without `metrics`.
        """
        if metric_tags is not None and metrics is None:
            raise SettingError("metric_tags needs the definitions of the metrics: pass metrics, such as job.metrics")
        place = None if name is None else name if isinstance(name, Name) else Name(name)
        tags, of_metric = set(spec_tags or ()), set(metric_tags or ())
        found = [
            spec
            for spec in self.values()
            if (place is None or spec.name == place or spec.name in place)
            and (meta is None or spec.query_metadata(meta))
            and (required_meta is None or spec.query_metadata(required_meta, arg_driven=True))
            and tags <= spec.tags
            and (not of_metric or of_metric <= _tags_of_metric(spec, metrics or {}))
        ]
        return SpecificationSet(found, self.partials)

    def report(
        self,
        measurements: Mapping[str, Measurement],
        name: str | None = None,
        meta: Mapping[str, Any] | None = None,
        metric_tags: Iterable[str] | None = None,
        spec_tags: Iterable[str] | None = None,
        metrics: Mapping[str, Metric] | None = None,
        reasons: Mapping[str, str] | None = None,
    ) -> Report:
        """Check measurements against the specifications that `subset` chooses by these arguments.

        `reasons` are those of a `Report`.
        """
        wanted = self.subset(name, None, None, spec_tags, metric_tags, metrics)
        chosen = wanted.subset(meta=meta)
        return Report(measurements, chosen, metrics, reasons, sorted(set(wanted) - set(chosen)))

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        rows = [[str(name), spec.test, ", ".join(sorted(spec.tags))] for name, spec in sorted(self.items())]
        return html_table(["Name", "Test", "Tags"], rows)


def _definitions_below(folder: Path) -> list[Definition]:
    package = folder.resolve().name
    return [
        definition
        for path in sorted(folder.rglob("*"))
        if path.suffix in YAML_SUFFIXES
        for definition in definitions(path, path.relative_to(folder).with_suffix("").as_posix(), package)
    ]


def _is_partial(key: object) -> bool:
    return isinstance(key, str) and PARTIAL_SIGN in str(key)


def _tags_of_metric(spec: ThresholdSpecification, metrics: Mapping[str, Metric]) -> set[str]:
    metric = metrics.get(spec.metric_name) if spec.name.has_metric else None
    return metric.tags if metric else set()
