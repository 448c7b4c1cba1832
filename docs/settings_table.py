"""The directive ``settings``: a table of all settings of a run, generated from `Settings`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from runmem.settings import Settings, environment_variables, option_name

HEAD = ("Setting", "Environment variable", "What it does")


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield the name with its placeholder, the environment variables and the description of each setting."""
    for setting in fields(Settings):
        entry = setting.metadata
        value = entry["metavar"] or "|".join(entry["choices"])
        default = f" Default: {entry['unset']}." if entry["unset"] else ""
        yield (
            f"{option_name(setting)} {value}".strip(),
            ", ".join(environment_variables(setting)),
            entry["help"] + default,
        )


class SettingsTable(SphinxDirective):
    """A table with one row per setting."""

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
