"""A command line of COMPSs means the same here, as far as there is a meaning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from runmem.cli.runcompss import translated

PROGRAM = """
import sys

from helper import offset

from pycompss.api.api import compss_wait_on
from pycompss.api.parameter import FILE_IN, FILE_INOUT, FILE_OUT
from pycompss.api.task import task


@task(returns=1)
def double(x):
    return 2 * x


@task(path=FILE_OUT)
def store(x, path):
    with open(path, "w") as file:
        file.write(str(x))


@task(path=FILE_INOUT)
def append(path):
    with open(path, "a") as file:
        file.write("0")


@task(returns=1, path=FILE_IN)
def load(path):
    with open(path) as file:
        return int(file.read())


value = double(double(offset()))
store(value, "stored.txt")
append("stored.txt")
print(sys.argv[1:], compss_wait_on(load("stored.txt")))
"""


def runcompss(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in a folder that is also the home directory."""
    command = [sys.executable, "-c", "from runmem.__main__ import runcompss; runcompss()", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RUNMEM_", "COMPSS_"))}
    return subprocess.run(
        command, cwd=folder, env={**environment, "HOME": str(folder)}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("app.py", ""),
        ("-d app.py", "-d"),
        ("-dg app.py", "-d -g"),
        ("--debug --graph --summary app.py", "--debug --graph --summary"),
        ("--graph=true app.py", "--graph"),
        ("--graph=false app.py", ""),
        ("--log_level=off app.py", "--log_level=off"),
        ("--log_level=trace app.py", "--log_level=debug"),
        ("--log_level api app.py", "--log_level=info"),
        ("--pythonpath=/a:/b app.py", "--pythonpath=/a:/b"),
        ("--env_script=env.sh --python_interpreter=python3 app.py", "--env_script=env.sh --python_interpreter=python3"),
        ("--project=p.xml --resources=r.xml app.py", "--project=p.xml --resources=r.xml"),
        ("--nested=true app.py", "--nested"),
        ("--nested=false app.py", ""),
        ("--wall_clock_limit=60 app.py", "--wall_clock_limit=60"),
        ("--wall_clock_limit=0 app.py", ""),
        ("--python_memory_profile app.py", "--python_memory_profile"),
        ("--workers=4 --sequential --inputs copied app.py", "--workers=4 --sequential --inputs=copied"),
        ("--scheduler=tcp://10.0.0.5:8786 app.py", "--scheduler=tcp://10.0.0.5:8786"),
    ],
)
def test_an_option_with_a_meaning_is_one_of_runmem(typed: str, meant: str) -> None:
    line = translated(typed.split())
    assert line.arguments == ["run", *meant.split(), "--compss_folder", "~/.COMPSs", "app.py"]
    assert line.ignored == []


@pytest.mark.parametrize(
    ("typed", "ignored"),
    [
        ("--tracing -t --monitoring=2000 app.py", "--tracing -t --monitoring"),
        ("--comm=es.bsc.compss.nio.master.NIOAdaptor --lang=python app.py", "--comm --lang"),
        ("--task_count 50 --task_count=60 app.py", "--task_count"),
        ("--scheduler=es.bsc.compss.scheduler.FIFO app.py", "--scheduler"),
        ("--scheduler es.bsc.compss.scheduler.FIFO app.py", "--scheduler"),
    ],
)
def test_an_option_without_a_meaning_is_accepted(typed: str, ignored: str) -> None:
    line = translated(typed.split())
    assert line.arguments == ["run", "--compss_folder", "~/.COMPSs", "app.py"]
    assert line.ignored == ignored.split()


def test_the_arguments_after_the_program_are_the_program_s() -> None:
    assert translated(["app.py", "--tracing", "-d", "--", "x"]).arguments[-5:] == [
        "app.py",
        "--tracing",
        "-d",
        "--",
        "x",
    ]


@pytest.mark.parametrize("option", ["--log_dir=logs", "--base_log_dir=logs"])
def test_the_log_folder_is_below_the_one_that_is_named(option: str) -> None:
    assert translated([option, "app.py"]).arguments == ["run", "--compss_folder", "logs/.COMPSs", "app.py"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--grahp app.py", "no such option: --grahp; did you mean --graph?"),
        ("--wrokers=2 app.py", "did you mean --workers?"),
        ("--wall_clock_limt=2 app.py", "did you mean --wall_clock_limit?"),
        ("--qqqq app.py", "runcompss -h lists the options"),
        ("-x app.py", "no such option: -x"),
        ("--graph=maybe app.py", "'maybe' is neither true nor false"),
        ("--log_level=loud app.py", "'loud' is not one of"),
        ("--log_dir", "requires an argument"),
        ("-d", "no program"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_the_nearest(typed: str, said: str) -> None:
    with pytest.raises(click.UsageError) as raised:
        translated(typed.split())
    assert said in raised.value.format_message()


def test_every_option_of_the_help_is_understood(tmp_path: Path) -> None:
    printed = runcompss(tmp_path, "--help").stdout
    names = set(re.findall(r"--(\w+)", printed)) | set(printed.partition("no effect:")[2].split())
    assert len(names) > 50
    for name in sorted(names):
        values = {"log_level": "debug", "graph": "true"}
        word = f"--{name}={values.get(name, '1')}"
        assert translated([word, "app.py"]).arguments[-1] == "app.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run a program by `runcompss`, once for several tests."""
    folder = tmp_path_factory.mktemp("compss")
    (folder / "app.py").write_text(PROGRAM)
    (folder / "library").mkdir()
    (folder / "library" / "helper.py").write_text("def offset():\n    return 5\n")
    done = runcompss(
        folder, "-g", "--tracing", "--workers=1", "--python_memory_profile", "--comm=NIO", "--pythonpath=library",
        "app.py", "one", "--two",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_program_runs_with_its_arguments(run: Any) -> None:
    _, done = run
    assert done.stdout == "['one', '--two'] 200\n"
    notes = [line for line in done.stderr.splitlines() if "without effect" in line]
    assert notes == ["runcompss: note: without effect here: --tracing, --comm"]


def test_the_summary_counts_calls_where_memory_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "from pycompss.api.api import compss_wait_on\nfrom pycompss.api.task import task\n"
        "@task(returns=1)\ndef good(x): return x\n"
        "@task(returns=1, on_failure='FAIL')\ndef bad(): raise ValueError('no')\n"
        "good(good(1))\ntry: compss_wait_on(bad())\nexcept ValueError as error: print(error)\n"
    )
    done = runcompss(tmp_path, "--summary", "-g", "--sequential", "app.py")
    rows = [line.split() for line in done.stderr.splitlines()]
    assert (done.returncode, done.stdout) == (0, "no\n"), done.stderr
    for row in ("Task Calls Finished Failed Cancelled", "good 2 2 0 0", "bad 1 0 1 0"):
        assert row.split() in rows
    assert "graph of the calls: runmem_runs/app_01/complete_graph." in done.stderr


def test_the_output_is_linked_where_users_look_for_it(run: Any) -> None:
    folder, _ = run
    logs = folder / ".COMPSs" / "app.py_01"
    (directory,) = (folder / "runmem_runs").iterdir()
    assert (logs / "run").resolve() == directory
    assert (logs / "jobs").resolve() == directory / "profiles"
    assert (logs / "monitor" / "complete_graph.dot").is_file()


def test_the_graph_has_the_calls_and_what_they_need(run: Any) -> None:
    folder, _ = run
    text = (folder / ".COMPSs" / "app.py_01" / "monitor" / "complete_graph.dot").read_text()
    labels = dict(re.findall(r'^  (\d+) \[label="([^"]+)"', text, re.M))
    names = {"1": "double 1", "2": "double 2", "3": "store 3", "4": "append 4", "5": "load 5"}
    assert {number: label.partition("\\n")[0] for number, label in labels.items()} == names
    assert all(re.search(r"\\n\d+\.\d MiB$", label) for label in labels.values())
    edges = re.findall(r'^  (\d+) -> (\d+) \[label="([^"]*)"', text, re.M)
    assert edges == [("1", "2", "d1.0"), ("2", "3", "d2.0"), ("3", "4", "stored.txt"), ("4", "5", "stored.txt")]
    assert '"double (2)"' in text


@pytest.mark.parametrize("option", ["--wall_clock_limit=1", "--wall_clock_limit 1"])
def test_a_wall_clock_limit_ends_the_program(tmp_path: Path, option: str) -> None:
    (tmp_path / "app.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\nprint('never')\n")
    done = runcompss(tmp_path, *option.split(), "app.py")
    assert done.returncode == 143
    assert done.stdout == "begun\n"
    assert "the run has reached its limit of 1 s" in done.stderr
