"""The site is built without warnings, uses no other host, and has a complete reference."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from dataclasses import fields
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

import runmem
from runmem.cli import COMMANDS
from runmem.settings import Settings, environment_variables, option_name

ROOT = Path(__file__).parents[2]
NEEDED = ("sphinx", "numpydoc", "myst_parser", "furo", "sphinx_click")
missing = [name for name in NEEDED if find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"not installed: {missing} (pip install -e '.[docs]')")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the pages without warnings and return their folder."""
    options = ["-W", "--keep-going", "-q"]
    made = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "-d", str(made / "read"), "docs", str(made / "pages")],
        cwd=ROOT, capture_output=True, text=True, timeout=240, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return made / "pages"


def shown(page: Path) -> str:
    """Return the text of a page without markup and with normalised white space."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", page.read_text("utf-8"))).split())


def test_who_reads_the_pages_asks_no_other_host(site: Path) -> None:
    loaded = r"<(?:script|img|iframe|source)[^>]+src=\"?(https?:)?//|<link[^>]+href=\"?(https?:)?//"
    pages, sheets = [*site.rglob("*.html")], [*site.rglob("*.css")]
    assert len(pages) > 20
    assert sheets
    assert [page.name for page in pages if re.search(loaded, page.read_text("utf-8"))] == []
    asked = r"(@import|url\()\s*[\"']?(https?:)?//"
    assert [sheet.name for sheet in sheets if re.search(asked, sheet.read_text("utf-8"))] == []


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    page = "".join((site / "reference" / f"{name}.html").read_text("utf-8") for name in ("python", "events"))
    assert [name for name in runmem.__all__ if f'id="runmem.{name}"' not in page] == []


@pytest.mark.parametrize("module", ["runmem.events", "runmem.task_runner"])
def test_every_name_of_a_module_is_on_its_page(site: Path, module: str) -> None:
    page = (site / "reference" / f"{module.removeprefix('runmem.')}.html").read_text("utf-8")
    assert [name for name in import_module(module).__all__ if f'id="{module}.{name}"' not in page] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_told_as_its_help_tells_it(site: Path, name: str) -> None:
    page = shown(site / "reference" / "command_line.html")
    command: click.Command = import_module(f"runmem.cli.{name}").command
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    assert options
    for option in options:
        names = ", ".join(option.opts)
        value = option.metavar or ""
        if value.startswith("["):  # may be left out; the extension drops the brackets
            value = value.strip("[]")
        assert f"{names} <{value}>" in page if value else names in page
        assert " ".join((option.help or "").replace("`", "").split()) in page


def test_every_setting_is_in_the_table_with_its_environment_variables(site: Path) -> None:
    page = shown(site / "reference" / "settings.html")
    for setting in fields(Settings):
        assert option_name(setting) in page
        assert ", ".join(environment_variables(setting)) in page
