"""Definitions of specifications in YAML files, which may inherit from each other.

A document with ``id`` is a partial, which others inherit from; one with ``name`` is a specification. First the names of
partials become full (``package:place#id``, with the path of the file in the package's folder as the place), then those
of specifications whose metric is known. Then the bases are merged, as soon as they are resolved themselves: a
specification may get its metric from one of them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from itertools import compress
from pathlib import Path
from typing import NamedTuple

from runmem.errors import SettingError
from runmem.reading import JsonObject, short_repr
from runmem.verify.errors import SpecificationResolutionError, VerifyTypeError
from runmem.verify.name import Name
from runmem.verify.spec import ThresholdSpecification
from runmem.verify.yaml_file import read_documents

__all__ = ["Definition", "PARTIAL_SIGN", "Resolved", "definitions", "merged", "resolve"]

log = logging.getLogger(__name__)

PARTIAL_SIGN = "#"
_PARTIAL = re.compile(r"(?:(?P<package>[^\s:#]+):)?(?P<place>[^\s#]+)?#(?P<id>[^\s#]+)")
_UNUSED = ("provenance_query",)  # has no effect in lsst.verify either
_KEYS = ("name", "id", "base", "package", "metric", "threshold", "type", "metadata_query", "tags")


class Definition(NamedTuple):
    """A document of a YAML file.

    Attributes
    ----------
    path : Path
    document : dict
        Without ``base``.
    name : str or Name
        Full name of a partial, full or relative name of a specification.
    bases : list of str
        Full names of partials and of specifications.
    """

    path: Path
    document: JsonObject
    name: str
    bases: list[str]

    @property
    def is_partial(self) -> bool:
        """Whether others only inherit from it."""
        return PARTIAL_SIGN in self.name


class Resolved(NamedTuple):
    """Specifications, and partials by their full names; each with all that it inherits."""

    specs: list[ThresholdSpecification]
    partials: dict[str, JsonObject]


def definitions(path: Path, place: str, package: str | None, is_default: bool = False) -> list[Definition]:
    """Return the definitions in a YAML file; each document is one or a list of them.

    Parameters
    ----------
    place : str
        Path of the file in the package's folder, without its ending.
    package : str, optional
    is_default : bool
        Whether a name may have another package.

    Raises
    ------
    SettingError
        If the file cannot be read, or a document is no definition.
    """
    found = []
    unused: list[str] = []
    for document in read_documents(path, _UNUSED):
        for content in document if isinstance(document, list) else [document]:
            try:
                found.append(_definition(path, content, place, package, is_default))
            except SettingError as error:
                raise SettingError(f"{path}: {error}") from error
            unused += [f"{key!r} of {found[-1].name}" for key in content if key not in _KEYS]
            threshold = content.get("threshold")
            if isinstance(threshold, Mapping):
                more = [key for key in threshold if key not in ("value", "unit", "operator")]
                unused += [f"{key!r} of the threshold of {found[-1].name}" for key in more]
    if unused:
        log.warning("%s: these entries have no effect: %s", path, ", ".join(unused))
    return found


def _definition(path: Path, content: object, place: str, package: str | None, is_default: bool) -> Definition:
    if not isinstance(content, Mapping) or not ("name" in content or "id" in content):
        raise SettingError(f"expected a specification with name and threshold, not {short_repr(content)}")
    document = {key: value for key, value in content.items() if key != "base" and value is not None}
    own = document.get("package")
    if own is not None and own != package and package is not None and not is_default:
        raise SettingError(f"{short_repr(dict(content))} is in the folder of package {package!r}")
    owner, name = own or package, None
    if "id" not in document:
        if not isinstance(given := document.get("name"), str):
            raise SettingError(f"the name of a specification is {given!r}: give a text")
        name = _spec_name(given, document.get("metric"), owner, is_default)
        owner = name.package or owner
    if owner is not None:
        document["package"] = owner
    given = content.get("base") or []
    bases = [given] if isinstance(given, str) else given
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise SettingError(f"the base is {short_repr(given)}: give the name of a definition, or a list of names")
    full = [
        _partial_name(base, place, package) if PARTIAL_SIGN in base else str(_spec_name(base, None, owner, True))
        for base in bases
    ]
    return Definition(path, document, name or _partial_name(f"#{document['id']}", place, package), full)


def _partial_name(name: str, place: str, package: str | None) -> str:
    match = _PARTIAL.fullmatch(name)
    if match is None:
        raise SettingError(f"{name!r} is not the name of a partial: write '#id', 'place#id' or 'package:place#id'")
    owner = match["package"] or package
    return f"{f'{owner}:' if owner else ''}{match['place'] or place}#{match['id']}"


def _spec_name(name: str, metric: str | None, package: str | None, is_default: bool) -> Name:
    """Return the name of a specification, which is relative if its metric is not known yet."""
    own = Name(metric=metric, spec=name)
    if not own.has_metric or (own.has_package and is_default):
        return own
    return Name(package=package, spec=own)


def resolve(found: Iterable[Definition]) -> Resolved:
    """Merge definitions with their bases: a later base overrides an earlier one, their own content overrides all.

    Every definition becomes a partial or a specification.

    Raises
    ------
    SettingError
        If a definition is not valid, or two have one name; with the file.
    SpecificationResolutionError
        If a base does not exist, a definition inherits from itself, or a name stays incomplete.
    """
    waiting = list(found)
    by_name: dict[str, JsonObject] = {}
    places: dict[str, Path] = {}
    result = Resolved([], {})
    while waiting:
        is_ready = [all(base in by_name for base in definition.bases) for definition in waiting]
        if not any(is_ready):
            raise _unresolvable(waiting, by_name)
        for definition in compress(waiting, is_ready):
            try:
                name, document = _built(definition, by_name)
                if name in places:
                    raise SettingError(f"{name!r} is defined in {places[name]} already: rename one of them")
                if definition.is_partial:
                    result.partials[name] = document
                else:
                    result.specs.append(ThresholdSpecification.deserialize(**_fields(document)))
            except SpecificationResolutionError as error:
                raise SpecificationResolutionError(f"{definition.path}: {error}") from error
            except (SettingError, TypeError) as error:
                raise SettingError(f"{definition.path}: {error}") from error
            by_name[name], places[name] = document, definition.path
        waiting = [definition for definition, ready in zip(waiting, is_ready, strict=True) if not ready]
    return result


def _built(definition: Definition, by_name: Mapping[str, JsonObject]) -> tuple[str, JsonObject]:
    """Return the full name of a definition, and its content with that of its bases."""
    built: JsonObject = {}
    for base in definition.bases:
        built = merged(built, {key: value for key, value in by_name[base].items() if key not in ("name", "id")})
    document = merged(built, definition.document)
    if definition.is_partial:
        return definition.name, document
    name = definition.name
    assert isinstance(name, Name)
    if not name.is_fq:
        try:
            name = Name(document.get("package"), None if name.has_metric else built.get("metric"), name)
        except VerifyTypeError as error:
            raise SpecificationResolutionError(f"{str(name)!r} and its bases have no metric: {error}") from error
    if not name.is_fq:
        raise SpecificationResolutionError(
            f"the name {str(name)!r} is incomplete: write package.metric.specification, or name a base"
        )
    document.update(name=str(name), package=name.package, metric=name.metric)
    return str(name), document


def _fields(document: JsonObject) -> JsonObject:
    """Return the entries that make a `ThresholdSpecification`."""
    wanted = ("name", "threshold", "type", "metadata_query", "tags")
    return {"threshold": None} | {key: value for key, value in document.items() if key in wanted}


def _unresolvable(waiting: list[Definition], known: Mapping[str, JsonObject]) -> SettingError:
    names = {str(definition.name) for definition in waiting}
    for definition in waiting:
        for base in definition.bases:
            if base not in known and base not in names and not _may_become(base, waiting):
                return SpecificationResolutionError(
                    f"{definition.path}: {str(definition.name)!r} inherits from {base!r}, which does not exist"
                )
    circle = ", ".join(repr(str(definition.name)) for definition in waiting)
    return SpecificationResolutionError(
        f"{waiting[0].path}: inherits from itself, or from a circle of others: {circle}"
    )


def _may_become(base: str, waiting: list[Definition]) -> bool:
    """Return True if a specification whose metric is not known yet may turn out to have the name of a base."""
    return any(not d.is_partial and "." not in d.name and base.endswith(f".{d.name}") for d in waiting)


def merged(base: Mapping[str, object], over: Mapping[str, object]) -> JsonObject:
    """Return a document with the content of both: mappings and lists are joined, other values of `over` win."""
    result = dict(base)
    for name, value in over.items():
        before = result.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            result[name] = merged(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            result[name] = before + [item for item in value if item not in before]
        else:
            result[name] = value
    return result
