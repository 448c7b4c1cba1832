from __future__ import annotations

from datetime import UTC, datetime

from runmem.events import TaskRecord
from runmem.metrics.from_records import metadata_from_records
from runmem.pipe_base.metadata import TaskMetadata

START = 1_790_000_000.25


def record(task_id: int = 1, **fields: object) -> TaskRecord:
    values: dict[str, object] = {
        "task_id": task_id, "module": "wordcount", "name": "count_words", "file": "wordcount.py", "node": "n1",
        "pid": 10, "thread": 1, "attempt": 1, "start_s": START, "end_s": START + 2, "cpu_s": 1.5,
        "base_bytes": 100, "peak_bytes": 300, "end_bytes": 200, "method": "hwm", "status": "finished",
    }  # fmt: skip
    return TaskRecord(**{**values, **fields})  # type: ignore[arg-type]


def test_each_record_is_one_element_of_the_arrays():
    metadata = metadata_from_records([record(1), record(2, peak_bytes=500)])
    assert metadata.getArray("wordcount.count_wordsEndMaxResidentSetSize") == [300, 500]
    assert metadata.getArray("wordcount.count_wordsStartMaxResidentSetSize") == [100, 100]
    assert metadata["wordcount.__version__"] == 1
    assert metadata["wordcount.nodeName"] == "n1"


def test_times_are_utc_and_the_clock_of_the_task_starts_at_zero():
    metadata = metadata_from_records([record()])
    start = metadata["wordcount.count_wordsStartUtc"]
    assert start.endswith("+00:00")
    assert datetime.fromisoformat(start) == datetime.fromtimestamp(START, UTC)
    end_s = datetime.fromisoformat(metadata["wordcount.count_wordsEndUtc"]).timestamp()
    assert end_s - datetime.fromisoformat(start).timestamp() == 2
    assert metadata["wordcount.count_wordsEndCpuTime"] - metadata["wordcount.count_wordsStartCpuTime"] == 1.5


def test_a_missing_value_is_left_out_and_counted_never_zero():
    metadata = metadata_from_records([record(1), record(2, peak_bytes=None, base_bytes=None, cpu_s=None, end_s=None)])
    assert metadata.getArray("wordcount.count_wordsEndMaxResidentSetSize") == [300]
    assert metadata.getArray("wordcount.count_wordsEndCpuTime") == [1.5]
    assert len(metadata.getArray("wordcount.count_wordsEndUtc")) == 1
    assert metadata["wordcount.count_wordsExecutions"] == 2
    assert metadata["wordcount.count_wordsPeaksMissing"] == 1


def test_without_a_peak_there_is_no_key_for_it():
    metadata = metadata_from_records([record(peak_bytes=None)])
    assert "wordcount.count_wordsEndMaxResidentSetSize" not in metadata
    assert "wordcount.count_wordsPeakMethod" not in metadata


def test_values_missing_in_records_have_no_key():
    names = metadata_from_records([record()]).paramNames(topLevelOnly=False)
    assert not [name for name in names if "UserTime" in name or "PageFaults" in name]


def test_methods_of_the_values_are_counted():
    metadata = metadata_from_records([
        record(1), record(2, method="sampled", peak_bytes=900, shared=True), record(3, status="failed"),
        record(4, status="killed"),
    ])  # fmt: skip
    level = metadata["wordcount"]
    assert (level["count_wordsPeaksSampled"], level["count_wordsPeaksShared"]) == (1, 1)
    assert (level["count_wordsFailed"], level["count_wordsKilled"]) == (1, 1)
    assert level["count_wordsPeakMethod"] == "sampled, shared"


def test_a_node_is_named_only_where_it_is_the_only_one():
    metadata = metadata_from_records([record(1), record(2, node="n2"), record(3, module="other")])
    assert "wordcount.nodeName" not in metadata
    assert metadata["other.nodeName"] == "n1"


def test_a_method_of_a_class_has_a_level_of_its_own_with_its_version():
    metadata = metadata_from_records([record(name="Counter.count")])
    assert metadata.getArray("wordcount.Counter.countEndMaxResidentSetSize") == [300]
    assert metadata["wordcount.Counter.__version__"] == 1


def test_the_metadata_of_records_survive_json():
    metadata = metadata_from_records([record(1), record(2, name="merge", cpu_s=None)])
    assert TaskMetadata.from_json(metadata.to_json()) == metadata
