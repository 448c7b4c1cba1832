"""Read YAML files of definitions and configurations."""

from __future__ import annotations

import os
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runmem.errors import SettingError
from runmem.reading import read_yaml
from runmem.verify.errors import VerifyFileNotFoundError

__all__ = ["YAML_SUFFIXES", "package_folder", "read_documents"]

YAML_SUFFIXES = (".yaml", ".yml")


def read_documents(path: Path | str, unused: Collection[str] = ()) -> list[Any]:
    """Return the nonempty documents of a YAML file; tags for Python objects are refused.

    Parameters
    ----------
    unused : collection of str
        Keys whose content nobody uses, and may have a key twice.

    Raises
    ------
    SettingError
        If the file cannot be read, is not YAML, or has a key twice; with the file and the line.
    """
    try:
        documents = read_yaml(path, lambda key: key not in unused)
        return [document for document in documents if document is not None]
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise SettingError(f"{path} is not YAML: {error}") from error


def package_folder(name_or_path: Path | str, inside: str) -> Path:
    """Return the folder `inside` a package of definitions.

    Parameters
    ----------
    name_or_path : path
        A folder, or the name of an EUPS package that is set up (the environment variable ``VERIFY_METRICS_DIR`` for
        ``verify_metrics``) or of an importable Python package.
    inside : str
        ``metrics`` or ``specs``.

    Raises
    ------
    VerifyFileNotFoundError
        (a `ValueError` and an `OSError`) If there is none.
    """
    name = str(name_or_path)
    places = [Path(name)]
    if name.isidentifier():
        places += [Path(folder) for folder in [os.environ.get(f"{name.upper()}_DIR")] if folder]
        spec = find_spec(name)
        places += [Path(folder) for folder in (spec.submodule_search_locations or [] if spec else [])]
    for place in places:
        if (place / inside).is_dir():
            return place / inside
    raise VerifyFileNotFoundError(
        f"{name!r} has no folder {inside!r}: give the path of a folder that has one, the name of an EUPS package "
        f"({name.upper()}_DIR) or of a Python package. Tried: {', '.join(map(str, places))}"
    )
