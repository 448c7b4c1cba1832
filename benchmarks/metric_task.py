"""MemoryMetricTask over 1,000,000 metadata records: seconds (also of the processor, for a machine that others use too)
and peak memory, each way in a process of its own.

    python benchmarks/metric_task.py [RECORDS]

Three ways in which a million of them come: one array of a run (a value for each call), the records of a run directory,
and a file with the metadata of a quantum on each line.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runmem.events import TaskRecord
from runmem.metrics import MemoryMetricTask
from runmem.pipe_base import TaskMetadata, timeMethod
from runmem.store.layout import RunDirectory
from runmem.store.records import record_to_line
from runmem.store.run import write_provenance

MIB = 2**20


def metric(target: str) -> MemoryMetricTask:
    config = MemoryMetricTask.ConfigClass(target=target)
    config.connections.package, config.connections.metric = "demo", "Memory"
    return MemoryMetricTask(config=config)


def one_array(folder: Path) -> float:
    return metric("isr.run").run(folder / "array.json").measurement.value


def run_directory(folder: Path) -> float:
    return metric("demo.isr").run(folder / "demo_01").measurement.value


def quanta(folder: Path) -> float:
    task, highest = metric("isr.run"), 0.0
    with (folder / "quanta.jsonl").open("rb") as lines:
        for line in lines:
            highest = max(highest, task.run(TaskMetadata.from_json(line)).measurement.value)
    return highest


def write_inputs(folder: Path, count: int) -> None:
    class Isr:
        metadata = TaskMetadata()

        @timeMethod
        def run(self) -> None: ...

    Isr().run()
    values = [100 * MIB + i for i in range(count)]
    array = TaskMetadata.from_dict({"isr": Isr.metadata})
    array["isr.runEndMaxResidentSetSize"] = values
    (folder / "array.json").write_text(array.to_json())

    marker = 123456789
    array["isr.runEndMaxResidentSetSize"] = [marker]
    template = array.to_json()
    with (folder / "quanta.jsonl").open("w") as lines:
        lines.writelines(template.replace(str(marker), str(value)) + "\n" for value in values)

    directory = RunDirectory.create("demo", folder)
    write_provenance(directory, {"app": "demo", "records_complete": True})  # as that of a run that came to its end
    record = TaskRecord(
        task_id=marker, attempt=1, module="demo", name="isr", file="demo.py", node="n1", pid=7, thread=7,
        status="finished", start_s=1.0, end_s=2.0, cpu_s=0.5, base_bytes=50 * MIB, peak_bytes=100 * MIB,
        end_bytes=50 * MIB, method="hwm",
    )  # fmt: skip
    before, after = record_to_line(record).decode().split(str(marker))
    with directory.tasks_jsonl.open("w") as lines:
        lines.writelines(f"{before}{i}{after}" for i in range(1, count + 1))


def measure(way: str, folder: Path) -> None:
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    value = globals()[way](folder)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = {"seconds": time.perf_counter() - start_s, "cpu_s": time.process_time() - start_cpu_s}
    print(json.dumps({**seconds, "peak_mib": peak_kib / 1024, "value": value}))


def main() -> None:
    if len(sys.argv) == 4:
        measure(sys.argv[2], Path(sys.argv[3]))
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        write_inputs(Path(name), count)
        for way in ("one_array", "run_directory", "quanta"):
            command = [sys.executable, __file__, str(count), way, name]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            times = f"{found['seconds']:6.1f} s ({found['cpu_s']:.1f} s of the processor)"
            print(f"{way:14} {count:,} records: {times}, peak {found['peak_mib']:6.0f} MiB")


if __name__ == "__main__":
    main()
