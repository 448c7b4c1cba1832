"""Ctrl-C works for what tests start; how tests are dealt out when `pytest -n 2` runs them in two processes at once."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
SERVICES = ("slurm", "hosts")  # each makes something of which the machine has one: never two of them at once
LONG = ("lsst", "task_runner", "workers", "examples", "end_to_end", "clusters", "execution", "docs", "trials")


def pytest_configure() -> None:
    """Let programs that tests start take Ctrl-C, also where the shell of the tests (``pytest &``) has it ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no process waits for the other at the end."""
    if hasattr(config, "workerinput"):
        first = [*SERVICES, *LONG]
        items.sort(key=lambda item: _place(first, item.path.relative_to(TESTS).parts[0]))


def _place(first: list[str], folder: str) -> int:
    return first.index(folder) if folder in first else len(first)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal out whole files, since the tests of one share clusters and runs, and the services as if they were one file.

    Marks of groups would say the same, but pytest-xdist 3.8 does not see them under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = Path(nodeid.partition("::")[0])
            return "services" if path.parent.name in SERVICES else path.as_posix()

    config.option.loadscopereorder = False  # in our order
    return ByFile(config, log)
