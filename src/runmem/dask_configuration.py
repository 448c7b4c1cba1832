"""What stands of us in Dask's configuration, without importing Dask where nothing does.

The package takes a third of a second on a busy machine, which a program without tasks need not wait for.
"""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path
from typing import Any

__all__ = ["configuration", "configuration_files", "configuration_folders"]

_SECTION = "runmem"
_FILES = (".yaml", ".yml", ".json")


def configuration() -> Any:
    """Return the section ``runmem`` of Dask's configuration; an empty mapping where there is none."""
    if "dask" not in sys.modules and not _may_have_section():
        return {}
    from dask import config

    return config.get(_SECTION, None) or {}


def configuration_folders() -> list[Path]:
    """Return the folders, or files, in which Dask looks for its configuration."""
    folders = [os.environ.get("DASK_ROOT_CONFIG", "/etc/dask"), os.environ.get("DASK_CONFIG")]
    folders += [os.path.join(prefix, "etc", "dask") for prefix in (sys.prefix, *site.PREFIXES)]
    folders.append(os.path.join(os.path.expanduser("~"), ".config", "dask"))
    return [Path(folder) for folder in dict.fromkeys(folders) if folder]


def configuration_files() -> list[Path]:
    """Return the files that Dask reads its configuration from."""
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
    """Tell whether our section may be in a file; also of one that cannot be read: Dask says what is wrong with it."""
    try:
        return _SECTION.encode() in file.read_bytes()
    except OSError:
        return True
