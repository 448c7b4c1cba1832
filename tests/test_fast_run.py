"""The fast run, ``pytest -m "not slow and not service"``, has tests of every folder of src/runmem."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "runmem"
FAST = "not slow and not service"
ALIASES = {
    Path("pycompss", *inner)
    for inner in (("api",), ("functions",), ("alias", "pycompss"), ("runtime", "management"), ("tests",))
}


def test_every_folder_of_the_code_has_a_test_in_the_fast_run(request: pytest.FixtureRequest) -> None:
    config = request.config
    everything = [Path(argument).resolve() for argument in config.args] == [TESTS] and not config.option.keyword
    if not everything or config.option.markexpr not in ("", FAST):
        pytest.skip("only a full run or the fast run has collected all tests")
    left_out = {"slow", "service"}
    fast = (item for item in request.session.items if not left_out & {mark.name for mark in item.iter_markers()})
    tested = {item.path.parent.relative_to(TESTS) for item in fast}
    folders = {path.parent.relative_to(SOURCE) for path in SOURCE.glob("*/**/__init__.py")} - ALIASES
    if importlib.util.find_spec("lsst") is None:
        folders.remove(Path("lsst"))
    assert [str(folder) for folder in sorted(folders) if not any(path.is_relative_to(folder) for path in tested)] == []
