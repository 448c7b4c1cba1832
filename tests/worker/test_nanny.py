from __future__ import annotations

import json
import logging
import tempfile

from runmem.deaths import Cause
from runmem.store.layout import Spool
from runmem.worker.nanny import DeathNotes, DeathWatch


def test_deaths_are_noted_also_when_a_program_has_disabled_the_loggers_that_exist(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    logger = logging.getLogger("distributed.nanny.of_this_test")
    notes = DeathNotes(Spool.of_run("a-run"))
    watch = DeathWatch(notes, logger, lambda pid: 1000 * pid)
    logger.disabled = True  # as `logging.config.dictConfig` does
    logger.info("Worker process 12 was killed by signal 11")
    logger.warning("Worker tcp://127.0.0.1:4 (pid=13) exceeded 95% memory budget. Restarting...")
    watch.close()
    notes.note_exit(14, 0)
    notes.note_exit(15, 3)  # which the log has
    notes.note_late(16, "exceeded its time limit of 3 s", task_id=7, stack="here")
    notes.close()
    (deaths,) = tmp_path.rglob("deaths-*.jsonl")
    noted = [json.loads(line) for line in deaths.read_text().splitlines()]
    assert [(each["pid"], Cause(each["cause"])) for each in noted] == [
        (12, Cause.CRASH), (13, Cause.NANNY_LIMIT), (14, Cause.EXIT), (16, Cause.TIME_LIMIT),
    ]  # fmt: skip
    assert (noted[1]["limit_bytes"], noted[1]["at_least_bytes"]) == (13000, 12350)
    assert (noted[3]["task_id"], noted[3]["stack"]) == (7, "here")
    assert type(logger) is logging.Logger
    assert logger.disabled
