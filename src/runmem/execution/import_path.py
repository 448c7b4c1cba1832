"""Adds folders to the import path of a program."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["import_from"]


def import_from(folders: Sequence[str]) -> None:
    """Add folders after the first entry of ``sys.path``, and to ``PYTHONPATH`` for child processes.

    Workers receive ``sys.path`` when the cluster starts.
    """
    paths = [os.path.abspath(os.path.expanduser(folder)) for folder in folders]
    new = [path for path in dict.fromkeys(paths) if path not in sys.path]
    sys.path[1:1] = new
    before = os.environ.get("PYTHONPATH")
    if new:
        os.environ["PYTHONPATH"] = os.pathsep.join([*new, *([before] if before else [])])
