"""Sphinx configuration: ``python -m sphinx -W --keep-going -q docs build/docs``.

Neither the build nor the pages fetch anything from other hosts.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

from runmem import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = "runmem"
author = "the runmem maintainers"
copyright = f"{author}, Apache License 2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx_click", "settings_table"]
default_role = "code"  # for `name` in docstrings
smartquotes = False  # keeps -- in the help of options
myst_heading_anchors = 4  # links such as tasks.md#time-limits
numpydoc_show_class_members = False  # autodoc shows them
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
autodoc_mock_imports = ["lsst", "networkx"]  # so that runmem.lsst is documented without LSST's packages
maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"runmem {release}"
html_copy_source = False
html_show_sphinx = False

TOP = ("ARCHITECTURE", "CHANGELOG", "CONTRIBUTING")  # files of the parent folder, each included by a page here


def link_within(app: Sphinx, name: str, source: list[str]) -> None:
    """Point links to files of the parent folder to the pages that include them."""
    for file in TOP:
        source[0] = source[0].replace(f"](../{file}.md", f"]({file.lower()}.md")


def close_brackets(app: Sphinx, context: object, lines: list[str]) -> None:
    """Restore the bracket of values such as HOST[:PORT], which sphinx-click strips."""
    lines[:] = [re.sub(r"<([^<>\]]*\[[^<>\]]*)>", r"<\1]>", line) for line in lines]


def setup(app: Sphinx) -> None:
    app.connect("sphinx-click-process-options", close_brackets)
    app.connect("source-read", link_within)
