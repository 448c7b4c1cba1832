"""Runs that a script or a notebook starts by PyCOMPSs's functions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runmem.errors import SettingError
from runmem.pycompss import interactive
from runmem.pycompss.options import settings_of
from runmem.pycompss.runtime.launch import launch_pycompss_application

OTHER = """
import sys

from pycompss.api.api import compss_wait_on
from pycompss.api.task import task


class Box:
    def __init__(self, value):
        self.value = value


@task(returns=1)
def add(x, y):
    return Box(int(x) + int(y))


def main():
    return compss_wait_on(add(2, 4)).value


def app(a, b, c="0"):
    return compss_wait_on(add(a, b)).value + int(c), sys.argv[1:]


if __name__ == "__main__":
    print("main", compss_wait_on(add(20, 1)).value)
"""
FROM_A_PROGRAM = """
from pycompss.api.api import compss_wait_on
from pycompss.api.task import task
from pycompss.runtime.launch import launch_pycompss_application


@task(returns=1)
def nested():
    return launch_pycompss_application("elsewhere/other.py", "main")


print(compss_wait_on(nested()))
print(launch_pycompss_application("elsewhere/other.py", "app", ["1", "2"], {"c": "3"}, comm="NIO"))
launch_pycompss_application("elsewhere/other.py", None)
"""
FROM_A_SCRIPT = """
from runmem.pycompss.runtime.launch import launch_pycompss_application

if __name__ == "__main__":
    options = {"comm": "NIO", "app_name": "named", "workers": 1, "graph": True}
    print(launch_pycompss_application("elsewhere/other.py", "app", "off", ["1", "2"], {"c": "3"}, **options))
    print(launch_pycompss_application("elsewhere/other.py", "app", a=3, b=4, sequential=True))
"""
INTERACTIVE = """
import pycompss.interactive as ipycompss
from runmem import task, wait_on


@task(returns=1)
def double(x):
    return 2 * x


if __name__ == "__main__":
    ipycompss.start(app_name="notebook", workers=1, trace=True, monitor=2000)
    first, second = double(1), double(2)
    waited = wait_on(first)
    ipycompss.stop(sync=True)
    print(waited, first, second, double(4))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with a program in another one."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "other.py").write_text(OTHER)
    return tmp_path


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RUNMEM_", "COMPSS_"))}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=kept | variables, capture_output=True, text=True, check=False)


def test_a_program_and_its_tasks_launch_another_in_the_same_run(folder: Path) -> None:
    (folder / "program.py").write_text(FROM_A_PROGRAM)
    done = run(folder, "-m", "runmem", "--workers=1", "program.py")
    assert done.stdout == "6\n(6, ['1', '2'])\nmain 21\n", done.stderr
    assert [path.name for path in (folder / "runmem_runs").iterdir()] == ["program_01"]


def test_a_script_launches_a_program_in_a_run_of_its_own(folder: Path) -> None:
    (folder / "script.py").write_text(FROM_A_SCRIPT)
    done = run(folder, "script.py")
    assert done.stdout == "(6, ['1', '2'])\n(7, [])\n", done.stderr
    assert sorted(path.name for path in (folder / "runmem_runs").iterdir()) == ["named_01", "other_01"]
    assert (folder / "runmem_runs" / "named_01" / "complete_graph.dot").is_file()
    assert done.stderr.count("launch: without effect here: comm\n") == 1


def test_what_cannot_be_launched_is_named(folder: Path) -> None:
    with pytest.raises(SettingError, match="there is no program 'nothing.py'"):
        launch_pycompss_application("nothing.py", "main")
    (folder / "elsewhere" / "small.py").write_text("value = 1\n")
    with pytest.raises(SettingError, match="has no function 'value'"):
        launch_pycompss_application(
            str(folder / "elsewhere" / "small.py"), "value", sequential=True, log_dir=str(folder)
        )


def test_an_interactive_run_goes_from_start_to_stop_under_pycompss_s_name(folder: Path) -> None:
    (folder / "script.py").write_text(INTERACTIVE)
    ours = run(folder, "-m", "runmem.pycompss").stdout.strip()
    done = run(folder, "script.py", PYTHONPATH=os.pathsep.join([os.environ.get("PYTHONPATH", ""), ours]))
    assert done.stdout == "2 2 4 8\n", done.stderr
    lines = done.stderr.splitlines()
    assert "runmem: note: interactive.start: without effect here: trace, monitor" in lines
    assert lines[-1].startswith("runmem: stopped after 2 task calls; the run is in ")
    assert lines[-1].endswith("runmem_runs/notebook_01")


def test_an_interactive_run_begins_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    interactive.stop()
    interactive.start(sequential=True)
    try:
        with pytest.raises(SettingError, match="a run is under way already; end it with stop"):
            interactive.start()
    finally:
        interactive.stop()
    interactive.start(sequential=True)
    interactive.stop()


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({"debug": True, "log_level": "off"}, {"log_level": "debug"}),
        ({"log_level": "trace"}, {"log_level": "debug"}),
        ({"log_level": "api", "graph": False, "monitor": None}, {"log_level": "info"}),
        ({"graph": True, "wcl": 60, "log_dir": "logs"}, {"graph": True, "wall_clock_limit": 60, "run_folder": "logs"}),
        ({"scheduler": "tcp://a:1", "workers": 2}, {"scheduler": "tcp://a:1", "workers": 2}),
        ({"nested_enabled": True}, {"nested": True}),
        ({"scheduler": "es.bsc.compss.FIFO", "taskCount": 50}, {}),
    ],
)
def test_options_are_settings(options: dict[str, Any], settings: dict[str, Any]) -> None:
    assert settings_of(options, "test") == settings
