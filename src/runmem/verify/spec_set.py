"""A set of specifications, read from the YAML files of a package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from runmem.errors import SettingError
from runmem.reading import JsonObject, short_repr
from runmem.verify.name import Name
from runmem.verify.named_items import NamedItems
from runmem.verify.spec import ThresholdSpecification
from runmem.verify.yaml_file import package_folder, read_documents

__all__ = ["SpecificationSet"]


class SpecificationSet(NamedItems[ThresholdSpecification]):
    """Specifications by their names, ``package.metric.specification``.

    Parameters
    ----------
    specifications : iterable of ThresholdSpecification
    """

    def __init__(self, specifications: Iterable[ThresholdSpecification] | None = None) -> None:
        super().__init__()
        for spec in specifications or ():
            self.insert(spec)

    @classmethod
    def load_metrics_package(
        cls, package_name_or_path: Path | str = "verify_metrics", subset: str | None = None
    ) -> SpecificationSet:
        """Return the specifications in the folder ``specs`` of a package, which has a folder for each package.

        Raises
        ------
        SettingError
            If there is no such folder, or a specification is not valid.
        """
        folder = package_folder(package_name_or_path, "specs")
        places = sorted(path for path in folder.iterdir() if path.is_dir() and subset in (None, path.name))
        return cls(spec for place in places for spec in cls.load_single_package(place).values())

    @classmethod
    def load_single_package(cls, package_specs_dirname: Path | str) -> SpecificationSet:
        """Return the specifications of all YAML files below a folder, which is named after their package.

        Raises
        ------
        SettingError
            If a file cannot be read, or a specification is not valid.
        """
        folder = Path(package_specs_dirname)
        files = sorted(path for path in folder.rglob("*") if path.suffix in (".yaml", ".yml"))
        return cls._of_files(files, folder, folder.resolve().name)

    @classmethod
    def load_file(cls, path: Path | str, package: str | None = None) -> SpecificationSet:
        """Return the specifications of one YAML file.

        Parameters
        ----------
        package : str, optional
            Default package.

        Raises
        ------
        SettingError
            If the file cannot be read, or a specification is not valid.
        """
        return cls._of_files([Path(path)], Path(path).parent, package)

    @classmethod
    def _of_files(cls, files: Iterable[Path], folder: Path, package: str | None) -> SpecificationSet:
        """Return the specifications of files; definitions may inherit from each other."""
        bases: dict[str, JsonObject] = {}
        named: list[tuple[Path, str]] = []
        for path in files:
            place = path.relative_to(folder).with_suffix("").as_posix()
            for document in read_documents(path):
                for definition in document if isinstance(document, list) else [document]:
                    key, filled = _named(path, place, definition, package)
                    bases[key] = filled
                    if "#" not in key:
                        named.append((path, key))
        found = cls()
        for path, key in named:
            try:
                definition = _resolved(key, bases, ())
                found.insert(ThresholdSpecification.deserialize(**{**definition, "name": _full_name(definition)}))
            except (SettingError, TypeError) as error:
                raise SettingError(f"{path}: {error}") from error
        return found

    @classmethod
    def deserialize(cls, specs: Iterable[JsonObject] | None = None) -> SpecificationSet:
        """Return the specifications of documents from `json`."""
        return cls(ThresholdSpecification.deserialize(**document) for document in specs or ())

    @property
    def json(self) -> list[JsonObject]:
        """The specifications as ``specs`` of a Job."""
        return [spec.json for spec in self.values()]

    def insert(self, spec: ThresholdSpecification) -> None:
        """Add a specification, replacing one with the same name."""
        self[getattr(spec, "name", "?")] = spec

    def subset(
        self, name: str | None = None, meta: JsonObject | None = None, spec_tags: Iterable[str] | None = None
    ) -> SpecificationSet:
        """Return the specifications of a package or metric that apply to a Job's `meta` and have all the tags."""
        wanted = set(spec_tags or ())
        return SpecificationSet(
            spec
            for spec in self.values()
            if (name is None or spec.name == name or spec.name.belongs_to(name))
            and (meta is None or spec.query_metadata(meta))
            and wanted <= spec.tags
        )

    def __setitem__(self, key: str, spec: ThresholdSpecification) -> None:
        if not isinstance(spec, ThresholdSpecification) or spec.name != key:
            raise SettingError(
                f"cannot store {spec!r} as {key!r}: give a specification, for example from "
                "ThresholdSpecification.parse, with its name as the key"
            )
        self._items[str(key)] = spec

    def __str__(self) -> str:
        return f"<SpecificationSet: {len(self)} Specification{'' if len(self) == 1 else 's'}>"


def _named(path: Path, place: str, definition: object, package: str | None) -> tuple[str, JsonObject]:
    """Return the key of a definition (``place#id`` for a base without name) and the definition."""
    if not isinstance(definition, Mapping) or not ("name" in definition or "id" in definition):
        raise SettingError(f"{path}: expected a specification with name and threshold, not {definition!r}")
    filled = {"package": package, **definition}
    bases = filled.pop("base", [])
    bases = [bases] if isinstance(bases, str) else list(bases)
    filled["base"] = [f"{place}{base}" if str(base).startswith("#") else str(base) for base in bases]
    if "id" in filled:
        return f"{place}#{filled['id']}", filled
    return _key(filled), filled


def _key(definition: JsonObject) -> str:
    """Return the name of a specification as far as known before inheritance."""
    if "name" not in definition:
        raise SettingError(f"a specification has no name: {short_repr(dict(definition))}")
    parts = str(definition["name"]).split(".")
    if len(parts) == 1 and definition.get("metric"):
        parts.insert(0, str(definition["metric"]))
    if len(parts) < 3 and definition.get("package") and parts[0] != definition["package"]:
        parts.insert(0, str(definition["package"]))
    # The bases distinguish specifications with the same name that inherit their metric.
    return ".".join([*parts, *definition["base"]] if len(parts) < 3 else parts)


def _full_name(definition: JsonObject) -> Name:
    parts = _key({**definition, "base": []})
    return Name(spec=parts)


def _resolved(key: str, known: Mapping[str, JsonObject], above: tuple[str, ...]) -> JsonObject:
    """Return a definition merged with its bases: later bases override earlier ones, its own content overrides all."""
    if key in above:
        raise SettingError(f"{key!r} inherits from itself through {', '.join(above)}")
    own = known[key]
    built: JsonObject = {}
    for base in own["base"]:
        matches = [name for name in known if name == base or ("#" not in base and name.endswith(f".{base}"))]
        matches = matches or [f for f in known if "#" in base and f == base.rpartition(":")[2]]
        if not matches:
            raise SettingError(f"{key!r} inherits from {base!r}, which does not exist")
        inherited = _resolved(matches[0], known, (*above, key))
        built = _merged(built, {name: value for name, value in inherited.items() if name not in ("id", "base")})
        if "#" not in matches[0]:
            full = _full_name(inherited)
            built.update(package=full.package, metric=full.metric)
    return _merged(built, {name: value for name, value in own.items() if name != "base" and value is not None})


def _merged(base: Mapping[str, object], over: Mapping[str, object]) -> JsonObject:
    merged = dict(base)
    for name, value in over.items():
        before = merged.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            merged[name] = before + [item for item in value if item not in before]
        else:
            merged[name] = value
    return merged
