"""Calls in the program's own process have ended when they return: there is nothing to wait for, or to cancel."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from runmem import task


@task(returns=1)
def double(x):
    return 2 * x


def test_every_call_has_ended(session: Callable[..., Any]) -> None:
    with session(workers=None, sequential=True) as run:
        future = double(4)
        execution = future.version.execution
        run.submitter.cancel()
        run.submitter.cancel([execution])
        run.submitter.wait([execution], time.monotonic())
        run.submitter.wait(None, time.monotonic())
        assert run.submitter.has_ended(execution)
        assert run.submitter.fetch([future.version], time.monotonic()) == [8]
