from __future__ import annotations

import json
import logging
import threading

import pytest

from runmem.collection.logged_records import LoggedRecords
from runmem.events import LogLines


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def study():
    """Return a logger, its handler, and that of the one above it; they are gone after the test."""
    above, logger = logging.getLogger("study"), logging.getLogger("study.part")
    above.propagate = False
    kept = Kept(), Kept()
    for one, handler in zip((logger, above), kept, strict=True):
        one.addHandler(handler)
    yield logger, *kept
    for one, handler in zip((logger, above), kept, strict=True):
        one.removeHandler(handler)
        one.filters.clear()
        one.setLevel(logging.NOTSET)


def line(**fields) -> bytes:
    record = {"name": "study.part", "levelno": 30, "levelname": "WARNING", "msg": "100 %d", "created": 5.0, **fields}
    return json.dumps(record).encode() + b"\n"


def deliver(*lines: bytes) -> None:
    records = LoggedRecords()
    records.records_logged(LogLines("node", b"".join(lines)))
    records.deliver()


def test_a_record_is_handled_as_one_that_was_logged_here(study):
    _, own, above = study
    deliver(line(task="f", task_id=7, exc_text="Traceback: all of it"))
    assert [len(own.records), len(above.records)] == [1, 1]
    record = own.records[0]
    assert (record.getMessage(), record.task, record.task_id) == ("100 %d", "f", 7)
    assert logging.Formatter().format(record).endswith("Traceback: all of it")
    assert record.created - record.relativeCreated / 1000 == pytest.approx(_imported_at(), abs=0.01)


def _imported_at() -> float:
    record = logging.makeLogRecord({})
    return record.created - record.relativeCreated / 1000


def test_handlers_that_have_told_it_on_the_worker_do_not_again(study):
    _, own, above = study
    deliver(line(handled_by=["study.part"]), line(handled_by=["study"]), line(handled_by=["study", "study.part"]))
    assert [len(own.records), len(above.records)] == [1, 1]


def test_levels_and_filters_here_have_the_last_word(study):
    logger, own, _ = study
    logger.setLevel(logging.ERROR)
    deliver(line())
    logger.setLevel(logging.NOTSET)
    logger.addFilter(lambda record: record.msg != "unwanted")
    deliver(line(msg="unwanted"), line(msg="unwanted", handled_by=["study"]), line(msg="wanted"))
    own.setLevel(logging.ERROR)
    deliver(line(handled_by=["study"]))
    assert [record.msg for record in own.records] == ["wanted"]


def test_a_line_that_cannot_be_read_costs_no_other(study):
    _, own, _ = study
    deliver(b"{damaged\n", line(msg="whole"))
    assert [record.msg for record in own.records] == ["whole"]


def test_who_delivers_while_another_thread_does_waits_for_it(study):
    logger, own, _ = study
    records, busy, go = LoggedRecords(), threading.Event(), threading.Event()

    def wait(record: logging.LogRecord) -> bool:
        busy.set()
        return go.wait(30)

    logger.addFilter(wait)
    records.records_logged(LogLines("node", line()))
    first = threading.Thread(target=records.deliver)
    first.start()
    assert busy.wait(30)
    records.records_logged(LogLines("node", line()))
    second = threading.Thread(target=records.deliver)
    second.start()
    go.set()
    second.join(30)
    first.join(30)
    assert len(own.records) == 2
