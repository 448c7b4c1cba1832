"""The directive ``settings``: a table of all settings of a run, from `Settings` and the options of `runmem run`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from runmem.cli.run import command
from runmem.settings import Settings, option_name

HEAD = ("Setting", "Environment variable", "What it does")


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield the option of each setting with its value, its environment variables, and the help of the option."""
    options = {name: parameter for parameter in command.params for name in parameter.opts}
    for setting in fields(Settings):
        option = options[f"--{option_name(setting)}"]
        value = f" {option.make_metavar(command.make_context('run', ['app.py']))}" if not option.is_flag else ""
        yield f"{option_name(setting)}{value}", ", ".join(setting.metadata["environment"]), option.help


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
