"""`runmem report --butler` on a repository with N quanta, beside the time of the Butler for the same reads.

    python benchmarks/butler_report.py [--quanta 20000] [--keep FOLDER]

The repository has a SQLite registry and one metadata file for each quantum, as `pipetask run` writes them. Both
times include the query; the Butler's is measured with `get` on a sample of the quanta and scaled. Prints seconds and
their ratio.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LABELS = ("isr", "calibrateImage")
DETECTORS = 200
SAMPLE = 3_000


def main() -> None:
    """Make the repository, read it with both, print the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quanta", type=int, default=20_000)
    parser.add_argument("--keep", type=Path, help="folder for the repository, which is used again if it exists")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        repository = folder / f"repo_{options.quanta}"
        if not repository.exists():
            started = time.perf_counter()
            make_repository(repository, options.quanta)
            print(f"repository of {options.quanta:,} quanta made in {time.perf_counter() - started:.1f} s")
        ours_s, summary = time_of_report(repository)
        butler_s = time_of_butler(repository, options.quanta)
    quanta = sum(task["executions"] for task in summary["tasks"])
    print(f"runmem report --butler: {ours_s:.1f} s for {quanta:,} quanta")
    print(f"Butler, one process:    {butler_s:.1f} s (query, and get of a sample of {SAMPLE:,}, scaled)")
    print(f"ratio runmem / Butler:  {ours_s / butler_s:.2f}")


def make_repository(root: Path, quanta: int) -> None:
    """Make a repository with metadata of `quanta` quanta, the tasks of `LABELS` in turn."""
    from lsst.daf.butler import Butler, DatasetRef, DatasetType, FileDataset

    Butler.makeRepo(str(root))
    butler = Butler.from_config(str(root), writeable=True, run="processed")
    insert = butler.registry.insertDimensionData
    insert("instrument", {"name": "Cam", "visit_max": 10**6, "exposure_max": 10**6, "detector_max": 1000})
    insert("physical_filter", {"instrument": "Cam", "name": "r1", "band": "r"})
    insert("day_obs", {"instrument": "Cam", "id": 20260801})
    insert("detector", *({"instrument": "Cam", "id": i, "full_name": f"R{i}"} for i in range(DETECTORS)))
    visits = range(1, quanta // len(LABELS) // DETECTORS + 2)
    insert("visit", *(
        {"instrument": "Cam", "id": v, "name": str(v), "physical_filter": "r1", "day_obs": 20260801} for v in visits
    ))  # fmt: skip
    dimensions = butler.dimensions.conform(["instrument", "visit", "detector"])
    generator = random.Random(1)
    for number, label in enumerate(LABELS):
        kind = DatasetType(f"{label}_metadata", dimensions, "TaskMetadata")
        butler.registry.registerDatasetType(kind)
        count = quanta // len(LABELS) + (number < quanta % len(LABELS))
        folder = root / "processed" / kind.name
        folder.mkdir(parents=True)
        datasets = []
        for index in range(count):
            visit, detector = divmod(index, DETECTORS)
            path = folder / f"{visit + 1}_{detector}.json"
            path.write_text(json.dumps(metadata_of(label, generator, index % 4 == 0)))
            data_id = butler.registry.expandDataId(instrument="Cam", visit=visit + 1, detector=detector)
            datasets.append(FileDataset(str(path), DatasetRef(kind, data_id, run="processed")))
        for start in range(0, count, 5000):
            butler.ingest(*datasets[start : start + 5000], transfer="direct")


def metadata_of(label: str, generator: random.Random, is_first: bool) -> dict[str, object]:
    """Return metadata as a quantum's: each fourth is the first of its process, whose peak is its own."""
    start, end = generator.randrange(2**29, 2**30), generator.randrange(2**31, 2**33)
    usage = {
        moment: {
            f"{moment}Utc": [f"2026-08-01T12:{minute:02}:00.{generator.randrange(10**6):06}+00:00"],
            **{f"{moment}{key}": [generator.random()] for key in ("CpuTime", "UserTime", "SystemTime")},
            f"{moment}MaxResidentSetSize": [end if moment.lower().endswith("end") or not is_first else start],
            **{f"{moment}{key}": [generator.randrange(10**5)] for key in
               ("MinorPageFaults", "MajorPageFaults", "BlockInputs", "BlockOutputs", "VoluntaryContextSwitches",
                "InvoluntaryContextSwitches")},
        }
        for minute, moment in ((1, "prep"), (2, "init"), (3, "start"), (4, "runStart"), (5, "runEnd"), (6, "end"))
    }  # fmt: skip
    levels = {"quantum": ("prep", "init", "start", "end"), label: ("runStart", "runEnd")}
    return {
        "scalars": {}, "arrays": {},
        "metadata": {
            level: {
                "scalars": {"__version__": 1, "nodeName": "n1"}, "metadata": {},
                "arrays": {key: value for moment in moments for key, value in usage[moment].items()},
            }
            for level, moments in levels.items()
        },
    }  # fmt: skip


def time_of_report(repository: Path) -> tuple[float, dict[str, list[dict[str, int]]]]:
    """Return the seconds of the command, and its summary."""
    command = [sys.executable, "-m", "runmem", "report", "--butler", str(repository), "--collections", "processed"]
    started = time.perf_counter()
    done = subprocess.run([*command, "--json", "--threshold", "4GiB,6GiB"], check=True, stdout=subprocess.PIPE)
    return time.perf_counter() - started, json.loads(done.stdout)


def time_of_butler(repository: Path, quanta: int) -> float:
    """Return the seconds of the Butler for a query and a `get` of every quantum, scaled from a sample."""
    from lsst.daf.butler import Butler

    butler = Butler.from_config(str(repository), collections=["processed"])
    started = time.perf_counter()
    refs = [ref for label in LABELS for ref in butler.query_datasets(f"{label}_metadata", limit=None, find_first=False)]
    query_s = time.perf_counter() - started
    sample = random.Random(2).sample(refs, min(SAMPLE, len(refs)))
    started = time.perf_counter()
    for ref in sample:
        butler.get(ref)
    return query_s + (time.perf_counter() - started) * len(refs) / len(sample)


if __name__ == "__main__":
    main()
