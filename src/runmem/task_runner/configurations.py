"""Store, compare and override the configuration of a task: a `Config`, or one of ``lsst.pex.config``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runmem.pipe_base.config import Config
from runmem.pipe_base.errors import ConfigError
from runmem.pipe_base.literals import value_of_text

__all__ = ["compare", "override", "override_from_file", "restored", "text_of"]


def text_of(config: Any) -> str:
    """Return the text of a configuration: ours, or one of ``lsst.pex.config``."""
    return str(config.saveToString())


def restored(config: Any, text: str) -> Any:
    """Return a configuration of the class of `config` with the values in a stored text.

    The text of our own class is read, never run: somebody else may have written the file.
    """
    found = type(config)()
    if not isinstance(config, Config):
        found.loadFromString(text)
        return found
    for line in text.splitlines():
        if line.startswith("config."):
            name, _, value = line.removeprefix("config.").partition("=")
            _set(found, name.strip(), value_of_text(value))
    return found


def compare(config: Any, other: Any, output: Callable[[str], object]) -> bool:
    """Return True if two configurations are equal; differences go to `output`."""
    return bool(config.compare(other, shortcut=False, output=output))


def override(config: Any, name: str, text: str) -> None:
    """Set the field with the dotted `name` from the text of a command line.

    The text itself is tried first, then its Python value.

    Raises
    ------
    ConfigError
        If there is no such field, or it takes neither.
    """
    *path, last = name.split(".")
    owner = config
    for depth, part in enumerate(path):
        if not hasattr(owner, part):
            raise ConfigError(f"no field {'.'.join(path[: depth + 1])!r} in {type(config).__name__}.")
        owner = getattr(owner, part)
    if not hasattr(owner, last):
        raise ConfigError(f"no field {name!r} in {type(config).__name__}.")
    try:
        setattr(owner, last, text)
        return
    except Exception as error:
        refusal = error
    try:
        value = value_of_text(text)
    except ConfigError:
        raise ConfigError(f"{name}={text}: {refusal}") from None
    try:
        setattr(owner, last, value)
    except Exception as error:
        raise ConfigError(f"{name}={text}: {error}") from error


def override_from_file(config: Any, path: str) -> None:
    """Set fields by running a file of Python in which ``config`` is the configuration. Raises `ConfigError`."""
    try:
        config.load(path)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"the configuration file {path!r} cannot be used: {type(error).__name__}: {error}") from error


def _set(config: Any, name: str, value: Any) -> None:
    *path, last = name.split(".")
    for part in path:
        config = getattr(config, part)
    setattr(config, last, value)
