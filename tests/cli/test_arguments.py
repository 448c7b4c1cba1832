"""Any command line ends soon, with one line of error and without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from arguments import make_folder, try_one

from runmem.cli import main

BLOCKS = 5
EACH = 30
SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in a folder of unusual files, without settings from outside."""
    for name in [name for name in os.environ if name.startswith(("RUNMEM_", "COMPSS_", "DASK_"))]:
        monkeypatch.delenv(name)
    make_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys, *arguments: str) -> str:
    """Return the error line for invalid arguments."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert err.startswith("runmem: error: ")
    assert len(err.splitlines()) == 1
    return err


@pytest.mark.parametrize("block", range(BLOCKS))
def test_odd_arguments_are_borne(block):
    assert [outcome for seed in range(block * EACH, (block + 1) * EACH) for outcome in try_one(seed)] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["n" * 300 + ".py"], ["report", "n" * 300], ["metric", "n" * 300], ["metric", "n" * 300 + ".dat"],
        ["--run_folder", "n" * 300, "app.py"], ["report", "n" * 300 + "/run"], ["report", "n/" * 3000],
        ["metric", "run", "--config", "n" * 300], ["metric", "run", "--spec", "n" * 300],
    ],
)  # fmt: skip
def test_a_name_that_no_file_can_have_is_refused(capsys, arguments):
    assert "nnn" in said(capsys, *arguments) or "n/n/n" in said(capsys, *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["x" * 200_000],
        ["report", "y" * 200_000],
        ["--workers", "z" * 200_000, "app.py"],
        ["metric", "run", "a b " * 50_000],
    ],
)
def test_of_a_long_argument_the_middle_is_left_out(capsys, arguments):
    line = said(capsys, *arguments)
    assert len(line) < 900
    assert max(arguments, key=len)[:20].split()[0] in line


def test_what_would_change_the_terminal_is_not_printed(capsys):
    assert "\x1b" not in said(capsys, "report", "\x1b[2J\nfoo")


@pytest.mark.parametrize("command", [["metric", "run", "--output"], ["report", "run", "--figure"]])
@pytest.mark.parametrize("name", [".", "..", "folder", "/"])
def test_a_folder_is_no_output(capsys, command, name):
    assert "is a directory" in said(capsys, *command, name)


def test_yaml_that_expands_without_end_is_refused(capsys):
    line = said(capsys, "metric", "x.dat", "--config", "laughs.yaml")
    assert "it has more than 1,000,000 values with its aliases expanded" in line


def test_a_program_nested_too_deeply_is_refused_as_python_does(folder):
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    (folder / "minus.py").write_text("x = " + "-" * 100_000 + "1\n")
    for name in ("deep.py", "minus.py"):
        plain = subprocess.run([sys.executable, name], cwd=folder, env=environment, capture_output=True, text=True)
        ours = subprocess.run(
            [sys.executable, "-m", "runmem", name], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert (ours.returncode, ours.stdout) == (plain.returncode, "")
        assert ours.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]
        assert "runmem" not in ours.stderr


def command_with(folder: Path, content: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run runmem with a Dask configuration file."""
    (folder / "dask.yaml").write_text(content)
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "DASK_CONFIG": str(folder / "dask.yaml")}
    return subprocess.run(
        [sys.executable, "-m", "runmem", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("runmem: [\n  x: {", "while parsing a flow node"),
        ("3", "expected a mapping of names to values, found 3"),
        ("[1, 2]", "expected a mapping of names to values, found [1, 2]"),
        ("runmem: !!int ''", "string index out of range"),
        ("a: &a {b: *a}", "with its aliases expanded"),
        ("a: 1\n---\nb: 2", "found 2 documents"),
    ],
)
def test_a_malformed_configuration_of_dask_is_named_and_help_works(folder, content, said):
    (folder / "plain.py").write_text("print('the program ran')\n")
    ran = command_with(folder, content, "plain.py")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"runmem: error: dask configuration {folder / 'dask.yaml'}: ")
    assert said in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert command_with(folder, content, "--help").returncode == 0
    assert command_with(folder, content, "run", "--help").returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is that of Linux")
def test_too_few_open_files_are_said_before_the_program_starts(folder):
    (folder / "plain.py").write_text("print('the program ran')\n")
    command = f"ulimit -n 40; exec {sys.executable} -m runmem --workers 2 plain.py"
    ran = subprocess.run(
        ["/bin/sh", "-c", command], cwd=folder, env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "runmem: error: this process may have 40 open files, and a cluster of 2 workers needs 54: allow more "
        "(`ulimit -n 256`), or use fewer workers (--workers).\n"
    )


def test_without_a_home_directory_a_tilde_is_refused(capsys, monkeypatch):
    import pwd

    def nobody(_number: int) -> None:
        raise KeyError("no such user")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert "there is no home directory for ~" in said(capsys, "--run_folder", "~/runs", "app.py")
