"""Types of datasets that the command line or the configuration names, for options of data ids."""

from __future__ import annotations

import argparse
from typing import Any, Protocol, runtime_checkable

from runmem.errors import SettingError

__all__ = ["ConfigDatasetType", "DatasetArgument", "DynamicDatasetType"]


@runtime_checkable
class DynamicDatasetType(Protocol):
    """A type of dataset that is known once the command line was read."""

    def addArgument(self, parser: argparse.ArgumentParser, idName: str) -> None:
        """Add an option of its own, if it has one, for the data ids of the option ``--<idName>``."""

    def getDatasetType(self, namespace: Any) -> str:
        """Return the type, from the parsed command."""


class DatasetArgument:
    """A type of dataset that an argument names.

    Parameters
    ----------
    name : str, optional
        The option, or without dashes the positional argument; default ``--<name of the data ids>_dstype``.
    help : str
    default : str, optional
        Without one the option must be given.
    """

    def __init__(
        self,
        name: str | None = None,
        help: str = "dataset type to process from input data repository",
        default: str | None = None,
    ) -> None:
        self.name, self.help, self.default = name, help, default

    def addArgument(self, parser: argparse.ArgumentParser, idName: str) -> None:
        """Add the argument."""
        self.name = self.name or f"--{idName}_dstype"
        more: dict[str, Any] = {"required": self.default is None} if self.name.startswith("-") else {}
        parser.add_argument(self.name, default=self.default, help=self.help.replace("%", "%%"), **more)

    def getDatasetType(self, namespace: Any) -> str:
        """Return the given type."""
        found: str = getattr(namespace, (self.name or "").lstrip("-").replace("-", "_"))
        return found


class ConfigDatasetType:
    """A type of dataset that a field of the configuration names, such as ``output.datasetType``."""

    def __init__(self, name: str) -> None:
        self.name = name

    def addArgument(self, parser: argparse.ArgumentParser, idName: str) -> None:
        """Add none."""

    def getDatasetType(self, namespace: Any) -> str:
        """Return the value of the field. Raises `SettingError` if there is no such field, or it has none."""
        value = namespace.config
        for part in self.name.split("."):
            value = getattr(value, part, None)
        if not isinstance(value, str):
            raise SettingError(f"the field {self.name!r} of the configuration names no dataset type: it is {value!r}.")
        return value
