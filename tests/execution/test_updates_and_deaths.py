"""Updates of large arrays in sessions of their own: with copied inputs, and with workers that die."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from runmem import INOUT, barrier, task, wait_on
from runmem.units import MIB

pytestmark = pytest.mark.slow

SIZE = 16 * MIB
LENGTH = SIZE // 8


def _define() -> SimpleNamespace:
    @task(returns=1)
    def create(length):
        return np.ones(length)

    @task(array=INOUT)
    def update(array):
        array += 1

    @task(returns=1)
    def total(array):
        return float(array.sum())

    @task(array=INOUT)
    def die_once(array, path):
        array[: len(array) // 2] += 1
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        array[len(array) // 2 :] += 1

    return SimpleNamespace(**locals())


tasks = _define()


def chain(array: Any) -> float:
    for _ in range(5):
        tasks.update(array)
    return float(wait_on(tasks.total(array)))


def test_with_copied_inputs_each_update_copies(session: Callable[..., Any], records_of: Callable[..., Any]) -> None:
    with session(inputs="copied", workers=1) as run:
        assert chain(tasks.create(LENGTH)) == 6.0 * LENGTH
        records = records_of(run, "update")
    assert all(record.peak_bytes - record.base_bytes > 0.9 * SIZE for record in records)


def test_an_update_whose_worker_dies_in_the_middle_is_made_again(session: Callable[..., Any], tmp_path: Path) -> None:
    with session(python_memory_profile=False):
        array = tasks.create(LENGTH)
        tasks.update(array)
        tasks.die_once(array, tmp_path / "died")
        tasks.update(array)
        assert wait_on(tasks.total(array)) == 4.0 * LENGTH


def test_updates_that_are_lost_with_their_workers_are_made_again(session: Callable[..., Any]) -> None:
    with session(python_memory_profile=False):
        array = tasks.create(LENGTH)
        for number in range(1, 3):
            tasks.update(array)
            barrier()
            for child in psutil.Process().children(recursive=True):
                if "spawn_main" in " ".join(child.cmdline()):
                    child.kill()
            tasks.update(array)
            assert wait_on(tasks.total(array)) == (1 + 2.0 * number) * LENGTH
