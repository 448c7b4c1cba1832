from __future__ import annotations

import json
import logging
import tempfile

import pytest

from runmem.store.layout import Spool
from runmem.worker.nanny import DeathWatch, cause_of


@pytest.mark.parametrize(
    ("message", "oom_kills", "expected"),
    [
        ("Worker process 123 was killed by signal 9", None, (123, "the worker process was killed by signal 9")),
        ("Worker process 123 was killed by signal 9", 0, (123, "the worker process was killed by signal 9")),
        ("Worker process 123 was killed by signal 9", 1,
         (123, "the kernel's out-of-memory killer ended the worker (signal 9)")),
        ("Worker process 123 was killed by signal 11", 1, (123, "the worker process was killed by signal 11")),
        ("Worker process 7 exited with status 3", 0, 
         (7, "the worker process exited with status 3: the task, or a library that it calls, has ended it")),
        ("Worker tcp://127.0.0.1:4 (pid=55) exceeded 95% memory budget. Restarting...", 0,
         (55, "Dask's nanny ended the worker: it used more than 95 % of its memory limit")),
        ("Restarting worker", 1, None),
        ("", None, None),
    ],
)  # fmt: skip
def test_the_nannys_log_tells_why_a_worker_died(message: str, oom_kills: int | None, expected: object) -> None:
    assert cause_of(message, oom_kills) == expected


def test_deaths_are_heard_of_also_when_a_program_has_disabled_the_loggers_that_exist(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    logger = logging.getLogger("distributed.nanny.of_this_test")
    watch = DeathWatch(Spool.of_run("a-run"), logger)
    logger.disabled = True  # as `logging.config.dictConfig` does
    logger.info("Worker process 12 was killed by signal 11")
    watch.close()
    (deaths,) = tmp_path.rglob("deaths-*.jsonl")
    assert json.loads(deaths.read_text())["pid"] == 12
    assert type(logger) is logging.Logger
    assert logger.disabled
