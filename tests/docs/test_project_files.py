"""The descriptions of the project in several files agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_the_citation_tells_what_the_package_tells() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    told = (citation["title"], citation["version"], citation["license"], citation["abstract"], citation["keywords"])
    assert told == tuple(PROJECT[key] for key in ("name", "version", "license", "description", "keywords"))


def test_the_changelog_has_the_version_of_the_package_or_what_is_not_released_yet() -> None:
    heading = next(line for line in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines() if line.startswith("## "))
    assert PROJECT["version"] in heading or "Unreleased" in heading


def test_the_extras_that_the_pages_name_are_those_of_the_package() -> None:
    extras = PROJECT["optional-dependencies"]
    named = set()
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for found in re.findall(r"pip install (?:-e )?'[\w.]*\[([\w,]+)\]'", page.read_text("utf-8")):
            named |= set(found.split(","))
    assert named
    assert named <= set(extras)
