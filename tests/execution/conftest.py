"""Sessions on the embedded cluster of two workers, as a script has them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import runmem
from runmem.events import TaskRecord
from runmem.execution.run import Run
from runmem.store.run import read_run


@contextmanager
def _session(folder: Path, **settings: Any) -> Iterator[Run]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        with runmem.session(app="suite", **{"workers": 2, "python_memory_profile": True, **settings}) as run:
            yield run
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One measured session for all tests of a module."""
    with _session(tmp_path_factory.mktemp("session")) as run:
        yield run


@pytest.fixture
def session(tmp_path: Path) -> Callable[..., Any]:
    """Return a function that starts a session for one test; it takes the settings of `runmem.session`."""
    return lambda **settings: _session(tmp_path, **settings)


@pytest.fixture(scope="session")
def records_of() -> Callable[[Run, str], list[TaskRecord]]:
    """Return a function that gives the records, so far, of the tasks whose qualified name ends with a text."""

    def records(run: Run, name: str) -> list[TaskRecord]:
        run.collector.collect()
        return [record for record in read_run(run.directory.root).records if record.name.endswith(name)]

    return records
