"""`runmem metric` on a run of the real command line: the forms of the command, its Job, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "wordcount.py"
NAMED = ("--target", "wordcount.count_words", "--package", "demo", "--metric", "CountWordsMemory")
CONFIG = """\
connections: {package: demo, metric: CountWordsMemory, labelName: wordcount}
target: wordcount.count_words
"""


@pytest.fixture(scope="module")
def counted(module_folder, runmem, write):
    """Run the example on a small folder of text."""
    for number in range(4):
        write(module_folder / "text", f"{number}.txt", "one two two three three three\n" * 50)
    arguments = ("--python_memory_profile", "--workers=2", str(EXAMPLE), "text", "--files_per_task=1")
    ran = runmem(module_folder, *arguments)
    assert ran.code == 0, ran.err
    return ran


@pytest.fixture
def metric(counted, runmem):
    """Return a function that runs `runmem metric` in the folder of the run."""
    return lambda *arguments: runmem(counted.folder, "metric", *map(str, arguments))


def test_a_task_by_name_gives_the_highest_peak_of_its_records(counted, metric):
    done = metric(counted.runs[-1], *NAMED)
    assert done.code == 0, done.err
    peak = max(record["peak_bytes"] for record in counted.records if record["name"] == "count_words")
    document = json.loads((counted.runs[-1] / "metrics" / "demo.CountWordsMemory.json").read_text())
    assert document["measurements"][0]["value"] == peak
    assert done.out.startswith(f"demo.CountWordsMemory: {peak} byte (")


def test_all_forms_agree_with_what_report_says(counted, metric, runmem):
    done = metric(counted.runs[-1], "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    told = json.loads(runmem(counted.folder, "report", str(counted.runs[-1]), "--json").out)
    expected = {row["target"]: row["max_peak_bytes"] for row in told["tasks"]}
    expected |= {f"node:{row['node']}": row["peak_bytes"] for row in told["nodes"]}
    (node,) = [row for row in told["nodes"] if row["node"] != "master"]
    expected["whole-run"] = node["peak_bytes"]
    found = {document["meta"][f"{m['metric']}.target"]: m["value"] for m in document["measurements"]}
    assert found == expected


def test_a_configuration_names_the_metric(counted, metric, write):
    write(counted.folder, "metrics.yaml", CONFIG)
    done = metric(counted.runs[-1], "--config", "metrics.yaml", "--json")
    assert [m["metric"] for m in json.loads(done.out)["measurements"]] == ["demo.CountWordsMemory"]


@pytest.mark.parametrize(("spec", "code"), [("<1 TiB", 0), (">=1 byte", 0), ("<1 kB", 3), ("<1 KB", 2), ("< many", 2)])
def test_the_exit_code_tells_whether_the_run_is_as_specified(counted, metric, spec, code):
    done = metric(counted.runs[-1], *NAMED, "--spec", f"demo.CountWordsMemory{spec}")
    assert done.code == code, done.out + done.err


def test_a_file_of_specifications_and_one_without_a_measurement(counted, metric, write):
    write(counted.folder, "limits.yaml", "name: Gone.limit\nthreshold: {operator: '<', value: 1, unit: GiB}\n")
    done = metric(counted.runs[-1], "--package", "demo", "--spec", "limits.yaml")
    assert done.code == 3
    assert "not measured  demo.Gone.limit" in done.out


def test_the_traces_alone_give_the_same_peaks_of_nodes(counted, metric):
    traces = sorted(path.name for path in counted.folder.glob("*.dat"))
    assert len(traces) == 2
    alone = json.loads(metric(*traces, "--json", "--output", "alone.json").out)
    sizes = {}
    for path in traces:
        lines = [line.split() for line in (counted.folder / path).read_text().splitlines()]
        sizes[path] = max(round(float(line[1]) * 2**20) for line in lines if line[0] == "MEM")
    found = {alone["meta"][f"{m['metric']}.trace"]: m["value"] for m in alone["measurements"]
             if f"{m['metric']}.trace" in alone["meta"]}  # fmt: skip
    assert found == sizes
