"""A large argument outlives any number of workers that die for other reasons."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np

from runmem import task, wait_on


def _define() -> Any:
    @task(returns=1)
    def total(block):
        return float(block.sum()), os.getpid()

    return total


total = _define()


def counted(dask_scheduler: Any) -> list[int]:
    return [ts.suspicious for key, ts in dask_scheduler.tasks.items() if str(key).startswith("argument-")]


def count_three(dask_scheduler: Any) -> None:
    for key, ts in dask_scheduler.tasks.items():
        if str(key).startswith("argument-"):
            ts.suspicious = 3  # one more, and Dask gives it up


def test_deaths_are_forgotten_when_the_argument_was_made_again(session: Any) -> None:
    block = np.ones(100_000)
    with session(workers=1) as run:
        client, _ = run._connect()
        for _ in range(3):
            value, pid = wait_on(total(block))
            assert value == 100_000
            assert client.run_on_scheduler(counted) == [0]
            client.run_on_scheduler(count_three)
            os.kill(pid, signal.SIGKILL)
