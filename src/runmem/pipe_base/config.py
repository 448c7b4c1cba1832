"""Configurations of tasks: named fields with types and checks, kept as text that people read and compare."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

from runmem.pipe_base.errors import ConfigError, FieldNameError
from runmem.pipe_base.literals import text_of_value
from runmem.store.output import write_file

__all__ = ["Config", "ConfigField", "Field", "ListField"]

_TYPES = (bool, int, float, complex, str, list, dict, tuple)


class Field:
    """One value of a `Config`.

    Parameters
    ----------
    doc : str
        What it means.
    dtype : type
        `bool`, `int`, `float`, `complex`, `str`, `list`, `dict` or `tuple`. An `int` is taken for a `float`.
    default : object, optional
    check : callable, optional
        Returns True if a value is allowed.
    optional : bool
        Whether None is allowed when the configuration is validated.
    """

    def __init__(
        self,
        doc: str,
        dtype: type,
        default: Any = None,
        check: Callable[[Any], object] | None = None,
        optional: bool = False,
    ) -> None:
        if dtype not in _TYPES:
            raise ConfigError(f"a field cannot be of type {dtype!r}: the types are {_names(_TYPES)}.")
        self.doc, self.default, self.check, self.optional = doc, default, check, optional
        self.dtype: Any = dtype
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else vars(instance)[self.name]

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self.name] = self.checked(value, type(instance).__name__)

    def made(self) -> Any:
        """Return the value of a new configuration."""
        return self.dtype(self.default) if self.dtype in (list, dict) and self.default is not None else self.default

    def checked(self, value: Any, where: str) -> Any:
        """Return `value` as this field holds it.

        Raises
        ------
        ConfigError
            If it is of another type or not allowed.
        """
        if value is None:
            return None
        if self.dtype is float and type(value) is int:
            value = float(value)
        if not isinstance(value, self.dtype) or self.dtype is not bool and isinstance(value, bool):
            raise ConfigError(
                f"{where}.{self.name} = {value!r} is a {type(value).__name__}; it must be a {self.dtype.__name__} "
                f"({self.doc})."
            )
        if self.check is not None and not self.check(value):
            raise ConfigError(f"{where}.{self.name} = {value!r} is not allowed ({self.doc}).")
        return value


class ListField(Field):
    """A list of texts; tuples and sets are taken too, sets in alphabetical order."""

    def __init__(self, doc: str, default: Any = None, optional: bool = False) -> None:
        super().__init__(doc, list, default, optional=optional)

    def checked(self, value: Any, where: str) -> Any:
        """Return `value` as a list; raises `ConfigError` for anything else or for items that are not texts."""
        if isinstance(value, (list, tuple, set, frozenset)):
            if wrong := [item for item in value if not isinstance(item, str)]:
                raise ConfigError(f"{where}.{self.name} = {value!r}: {wrong[0]!r} is not a text ({self.doc}).")
            value = sorted(value) if isinstance(value, (set, frozenset)) else list(value)
        return super().checked(value, where)


class ConfigField(Field):
    """A configuration inside another, such as that of a subtask."""

    def __init__(self, doc: str, dtype: type[Config]) -> None:
        self.doc, self.default, self.check, self.optional = doc, None, None, False
        self.dtype: Any = dtype
        self.name = ""

    def made(self) -> Any:
        """Return a configuration with its defaults."""
        return self.dtype()


class Config:
    """Settings of a task; subclasses have `Field` attributes.

    Examples
    --------
    ::

        class CountConfig(Config):
            threshold = Field("counts below it are dropped", int, default=5, check=lambda n: n >= 0)

        config = CountConfig()
        config.threshold = 7

    Raises
    ------
    ConfigError
        On setting an attribute that is no field, a value that its field does not take, or any of one that is frozen.
    """

    _frozen = False
    _fields: ClassVar[dict[str, Field]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._fields = {
            name: field
            for base in reversed(cls.__mro__)
            for name, field in vars(base).items()
            if isinstance(field, Field)
        }

    def __init__(self, **values: Any) -> None:
        for name, field in self.fields().items():
            setattr(self, name, field.made())
        self.setDefaults()
        for name, value in values.items():
            setattr(self, name, value)

    @classmethod
    def fields(cls) -> dict[str, Field]:
        """Return the fields by name, those of base classes first."""
        return dict(cls._fields)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._fields:
            raise FieldNameError(
                f"{type(self).__name__} has no field {name!r}; its fields are {', '.join(self.fields()) or '(none)'}."
            )
        if self._frozen:
            raise ConfigError(
                f"{type(self).__name__}.{name} cannot be set: the configuration is frozen, for example since a command "
                "line was read. Change a copy of it, config.copy(), or override applyOverrides."
            )
        super().__setattr__(name, value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.compare(other)

    __hash__ = None  # type: ignore[assignment]  # mutable, as a dict is

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.fields())
        return f"{type(self).__name__}({values})"

    def setDefaults(self) -> None:
        """Override to change defaults of base classes and of nested configurations."""

    def validate(self) -> None:
        """Check the configuration as a whole; override and call ``super().validate()``.

        Raises
        ------
        ConfigError
            For a field without a value that is not optional.
        """
        for name, field in self._fields.items():
            value = getattr(self, name)
            if value is None and not field.optional:
                raise ConfigError(f"{type(self).__name__}.{name} has no value ({field.doc}).")
            if isinstance(value, Config):
                value.validate()

    def freeze(self) -> None:
        """Refuse further changes, in nested configurations too; what a list or dictionary holds is not watched."""
        for name in self.fields():
            if isinstance(value := getattr(self, name), Config):
                value.freeze()
        vars(self)["_frozen"] = True

    def copy(self) -> Self:
        """Return a copy that can be changed."""
        made = copy.deepcopy(self)
        made._thaw()
        return made

    def _thaw(self) -> None:
        vars(self).pop("_frozen", None)
        for name in self.fields():
            if isinstance(value := getattr(self, name), Config):
                value._thaw()

    def update(self, **values: Any) -> None:
        """Set fields by name, all or none of them.

        Raises
        ------
        ConfigError
            For a name that is no field, or a value that its field does not take.
        """
        before = {name: getattr(self, name) for name in values if name in self._fields}
        try:
            for name, value in values.items():
                setattr(self, name, value)
        except ConfigError:
            vars(self).update(before)
            raise

    def items(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Yield dotted names and values, those of nested configurations included."""
        for name in self.fields():
            value = getattr(self, name)
            if isinstance(value, Config):
                yield from value.items(f"{prefix}{name}.")
            else:
                yield prefix + name, value

    def toDict(self) -> dict[str, Any]:
        """Return the values, nested configurations as dictionaries."""
        values = {name: getattr(self, name) for name in self.fields()}
        return {name: value.toDict() if isinstance(value, Config) else value for name, value in values.items()}

    def saveToString(self, root: str = "config") -> str:
        """Return the configuration as lines of Python, ``config.name=value``, each below its field's description."""
        lines = []
        for name, value in self.items():
            field = self._field(name)
            lines += [f"# {line}" for line in field.doc.splitlines()]
            lines += [f"{root}.{name}={text_of_value(value)}", ""]
        return "\n".join(lines)

    def loadFromString(self, text: str, filename: str = "<config>", root: str = "config") -> None:
        """Run `text` as Python with this configuration under the name `root`.

        Raises
        ------
        ConfigError
            If it fails; names the line.
        """
        try:
            exec(compile(text, filename, "exec", dont_inherit=True), {root: self, "__file__": filename})
        except Exception as error:
            line = getattr(error, "lineno", None) or _line_of(error, filename)
            raise ConfigError(f"{filename}, line {line}: {type(error).__name__}: {error}") from error

    def save(self, filename: str | Path, root: str = "config") -> None:
        """Write the configuration to a file that `load` reads, whole or not at all."""
        write_file(filename, self.saveToString(root))

    def load(self, filename: str | Path, root: str = "config") -> None:
        """Read the configuration from a file of Python that sets attributes of `root`. Raises `ConfigError`."""
        try:
            text = Path(filename).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the configuration file {str(filename)!r} cannot be read: {error}") from error
        self.loadFromString(text, str(filename), root)

    def compare(self, other: Any, output: Callable[[str], object] | None = None, **_: Any) -> bool:
        """Return True if `other` has the same fields and values; each difference goes to `output` as a line."""
        mine, its = dict(self.items()), dict(other.items())
        differences = [
            f"{name}: {_shown(mine, name)} != {_shown(its, name)}"
            for name in dict.fromkeys([*mine, *its])
            if not _is_same(mine, its, name)
        ]
        for line in differences:
            if output is not None:
                output(line)
        return not differences

    def _field(self, name: str) -> Field:
        *path, last = name.split(".")
        owner: Any = self
        for part in path:
            owner = getattr(owner, part)
        found: Field = owner.fields()[last]
        return found


def _names(types: tuple[type, ...]) -> str:
    return ", ".join(kind.__name__ for kind in types)


def _is_same(mine: dict[str, Any], its: dict[str, Any], name: str) -> bool:
    """Return True if a field has the same value in both; their texts decide, since NaN equals nothing."""
    return (name in mine and name in its and mine[name] == its[name]) or _shown(mine, name) == _shown(its, name)


def _shown(values: dict[str, Any], name: str) -> str:
    return text_of_value(values[name]) if name in values else "(no such field)"


def _line_of(error: BaseException, filename: str) -> int | None:
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == filename:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
