"""Ctrl-C works for what tests start; how tests are dealt out when `pytest -n 2` runs them in two processes at once."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SERVICES = ("slurm", "hosts")  # each makes something of which the machine has one: never two of them at once
LONG = ("lsst", "workers", "examples", "task_runner", "end_to_end", "clusters", "execution")


def pytest_configure() -> None:
    """Let programs that tests start take Ctrl-C, also where the shell of the tests (``pytest &``) has it ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of a file together, since they share clusters and runs, and begin with what takes long."""
    if not hasattr(config, "workerinput"):
        return
    for item in items:
        path = item.path.relative_to(TESTS)
        item.add_marker(pytest.mark.xdist_group("services" if path.parts[0] in SERVICES else path.as_posix()))
    first = [*SERVICES, *LONG]
    items.sort(key=lambda item: _place(first, item.path.relative_to(TESTS).parts[0]))


def _place(first: list[str], folder: str) -> int:
    return first.index(folder) if folder in first else len(first)
