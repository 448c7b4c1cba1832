from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from runmem.events import TaskRecord
from runmem.formats.mprof_lines import child_line, cmdline_line, func_line, mem_line
from runmem.store.layout import RunDirectory
from runmem.store.records import record_to_line
from runmem.store.run import write_provenance
from runmem.units import GIB, MIB

START = 1_790_000_000.0


@pytest.fixture
def record() -> Callable[..., TaskRecord]:
    """A finished, exactly measured execution of wordcount.count_words; any field may be given."""

    def make(task_id: int = 1, **fields: Any) -> TaskRecord:
        values: dict[str, Any] = {
            "task_id": task_id, "module": "wordcount", "name": "count_words", "file": "wordcount.py", "node": "n1",
            "pid": 10, "thread": 1, "attempt": 1, "start_s": START + task_id, "end_s": START + task_id + 0.8,
            "cpu_s": 0.5, "base_bytes": 50 * MIB, "peak_bytes": 100 * MIB, "end_bytes": 60 * MIB, "method": "hwm",
            "status": "finished", "limit_bytes": 512 * MIB,
        }  # fmt: skip
        values |= fields
        if values["base_bytes"] is not None and values["peak_bytes"] is not None:
            values.setdefault("increment_bytes", values["peak_bytes"] - values["base_bytes"])
        return TaskRecord(**values)

    return make


@pytest.fixture
def killed(record: Callable[..., TaskRecord]) -> TaskRecord:
    return record(
        17, name="big", attempt=2, status="killed", method="sampled", peak_bytes=500 * MIB, last_bytes=490 * MIB,
        end_bytes=None, cpu_s=None, reason="the kernel ended it: out of memory",
    )  # fmt: skip


@pytest.fixture
def write_run(tmp_path: Path) -> Callable[..., RunDirectory]:
    """Write a run directory with real files: records, a trace of node n1 and of the master, provenance."""

    def write(
        records: Sequence[TaskRecord], node_lines: bytes = b"", task_lines: bytes = b"", **provenance: Any
    ) -> RunDirectory:
        run = RunDirectory.create("wordcount", tmp_path / "runmem_runs")
        run.tasks_jsonl.write_bytes(b"".join(map(record_to_line, records)) + task_lines)
        trace = [cmdline_line("runmem wordcount.py")]
        for tick in range(5):
            time_s = START + tick
            trace += [child_line("worker-10", (50 + 10 * tick) * MIB, time_s), mem_line((90 + 20 * tick) * MIB, time_s)]
        trace.append(func_line("wordcount.count_words", 50 * MIB, START + 1, 60 * MIB, START + 1.8))
        (run.traces / "n1.dat").write_bytes(b"".join(trace) + node_lines)
        master = [mem_line((100 + tick) * MIB, START + tick) for tick in range(5)]
        (run.traces / "mprofile_20260921132320.dat").write_bytes(b"".join(master))
        nodes = {"n1": {"memory_bytes": GIB, "limit_bytes": 512 * MIB, "limit_source": "cgroup"}}
        known = {"app": "wordcount", "command": ["wordcount.py"], "started_s": START, "ended_s": START + 5,
                 "exit_code": 0, "nodes": nodes, "host": "n1", "trace_files": [], "lost": [],
                 "records_complete": True}  # fmt: skip
        write_provenance(run, {**known, **provenance})
        return run

    return write
