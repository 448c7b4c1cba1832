"""Reads the section ``runmem`` of Dask's configuration.

Imports Dask only if the section may exist: the import takes a third of a second on a busy machine, and programs without
tasks do not need it.
"""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

__all__ = ["configuration", "configuration_files", "configuration_folders"]

_SECTION = "runmem"
_FILES = (".yaml", ".yml", ".json")


def configuration() -> object:
    """Return the section ``runmem`` of Dask's configuration, an empty mapping if there is none."""
    if "dask" not in sys.modules and not _may_have_section():
        return {}
    from dask import config

    section: object = config.get(_SECTION, None) or {}
    return section


def configuration_folders() -> list[Path]:
    """Return the folders and files that Dask searches for its configuration."""
    folders = [os.environ.get("DASK_ROOT_CONFIG", "/etc/dask"), os.environ.get("DASK_CONFIG")]
    folders += [os.path.join(prefix, "etc", "dask") for prefix in (sys.prefix, *site.PREFIXES)]
    folders.append(os.path.join(os.path.expanduser("~"), ".config", "dask"))
    return [Path(folder) for folder in dict.fromkeys(folders) if folder]


def configuration_files() -> list[Path]:
    """Return Dask's configuration files."""
    return [file for folder in configuration_folders() for file in _files(folder)]


def _may_have_section() -> bool:
    if any(name.startswith("DASK_") for name in os.environ):
        return True
    return any(_names_section(file) for file in configuration_files())


def _files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    try:
        return [file for file in folder.iterdir() if file.suffix.lower() in _FILES]
    except OSError:
        return []


def _names_section(file: Path) -> bool:
    """Return True if a file may have the section, or cannot be read: Dask then reports the error."""
    try:
        return _SECTION.encode() in file.read_bytes()
    except OSError:
        return True
