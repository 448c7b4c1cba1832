"""The directive ``settings``: a table of all settings of a run, made from `Settings`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from runmem.settings import Settings, option_name

HEAD = ("Setting", "Environment variable", "What it does")


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield each setting with what stands for its value, its environment variables, and what it does."""
    for setting in fields(Settings):
        told = setting.metadata
        value = told["metavar"] or "|".join(told["choices"])
        unset = f" Default: {told['unset']}." if told["unset"] else ""
        yield f"{option_name(setting)} {value}".strip(), ", ".join(told["environment"]), told["help"] + unset


class SettingsTable(SphinxDirective):
    """A row for each setting."""

    def run(self) -> list[nodes.Node]:
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (25, 30, 45)), cols=len(HEAD))
        group += nodes.thead("", row(*(nodes.Text(text) for text in HEAD)))
        group += nodes.tbody(
            "", *(row(nodes.literal(text=name), nodes.literal(text=variables), nodes.Text(does))
                  for name, variables, does in rows())
        )  # fmt: skip
        return [nodes.table("", group)]


def row(*cells: nodes.Node) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("settings", SettingsTable)
    return {"parallel_read_safe": True}
