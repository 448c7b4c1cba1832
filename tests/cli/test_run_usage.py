"""Errors of the command line before any work, and its help."""

from __future__ import annotations

import os
from importlib import import_module

import pytest

from runmem.cli import COMMANDS, main
from runmem.cli.options_after_program import options_after_program
from runmem.cli.program import load_script
from runmem.cli.run import command
from runmem.cli.unknown_options import _OPTIONS_OF_SBATCH


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in an empty folder with one program, without settings from outside."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("RUNMEM_", "COMPSS_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "app.py").write_text("raise AssertionError('the program ran')\n")
    return tmp_path


def refused(capsys, *arguments: str) -> str:
    """Return standard error; check that the exit code is 2 and that nothing ran."""
    before = sorted(os.listdir())
    with pytest.raises(SystemExit) as exit:
        main(list(arguments))
    out, err = capsys.readouterr()
    assert exit.value.code == 2
    assert "Traceback" not in err
    assert sorted(os.listdir()) == before
    return out + err


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [
        ("--memory_interval", "0", "from 0.01 to 3600"),
        ("--memory_interval", "abc", "a number of seconds"),
        ("--workers", "0", "1 or more"),
        ("--workers", "-1", "1 or more"),
        ("--worker_memory", "lots", "500MiB or 2GiB"),
        ("--worker_memory", "1MiB", "at least 100MiB"),
        ("--worker_memory", "2", "without a unit 2 means 2 bytes"),
        ("--scheduler", "nonsense", "tcp://10.0.0.5:8786"),
        ("--log_level", "loud", "debug"),
    ],
)
@pytest.mark.parametrize("joined", [True, False])
def test_an_unusable_value_is_named_with_its_option_and_the_remedy(capsys, option, value, remedy, joined):
    written = [f"{option}={value}"] if joined else [option, value]
    said = refused(capsys, *written, "app.py")
    assert option in said
    assert repr(value) in said
    assert remedy in said


def test_an_unusable_variable_is_named(capsys, monkeypatch):
    monkeypatch.setenv("RUNMEM_MEMORY_INTERVAL", "0")
    assert "environment variable RUNMEM_MEMORY_INTERVAL: '0'" in refused(capsys, "app.py")


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--wrokers", "3"], "Did you mean '--workers'?"),
        (["--python-memory-profile"], "Did you mean '--python_memory_profile'?"),
        (["-workers", "2"], "Write it with two dashes: '--workers'."),
        (["--num_nodes", "2"], "it is an option of `runmem submit`."),
        (["submit", "--num-nodes", "2"], "Did you mean '--num_nodes'?"),
        (["submit", "--mem", "4G"], "It is an option of sbatch; that of `runmem submit` is '--node_memory'."),
        (["submit", "-N", "2"], "It is an option of sbatch; that of `runmem submit` is '--num_nodes'."),
        (["submit", "--gres", "gpu:1"], "are given by --extra_submit_flag=--gres=..."),
    ],
)
def test_the_message_for_an_unknown_option_has_the_right_one(capsys, arguments, remedy):
    assert remedy in refused(capsys, *arguments, "app.py")


def test_the_options_of_sbatch_in_messages_exist():
    submit = import_module("runmem.cli.submit").command
    assert set(_OPTIONS_OF_SBATCH.values()) <= {name for parameter in submit.params for name in parameter.opts}


def test_an_option_without_its_value_is_named(capsys):
    assert "'--workers' requires an argument" in refused(capsys, "--workers")


def test_a_misspelt_command_is_mended_and_the_commands_are_listed(capsys):
    said = refused(capsys, "reprot", "run")
    assert "'reprot' is neither a command nor a file" in said
    assert "Did you mean 'report'?" in said
    assert all(name in said for name in COMMANDS)


def test_a_missing_program_is_no_misspelt_command(capsys):
    assert "no program 'reprot.py'" in refused(capsys, "reprot.py")


def test_the_name_of_a_program_is_mended(capsys):
    assert "Did you mean 'app.py'?" in refused(capsys, "ap.py")
    assert " here (" not in refused(capsys, "/nowhere/app.py")


def test_a_notebook_is_no_program(capsys, folder):
    (folder / "book.ipynb").write_text('{"cells": []}')
    assert "'book.ipynb' is a notebook" in refused(capsys, "book.ipynb")


def test_a_file_without_a_suffix_is_a_program(capsys, folder):
    (folder / "reprot").write_bytes(b"\0")
    assert "binary file" in refused(capsys, "reprot")


def test_no_program_at_all_is_asked_for(capsys):
    assert "PROGRAM" in refused(capsys, "run")


def test_a_missing_env_script_is_named(capsys):
    assert "--env_script: 'env.sh' is not a file" in refused(capsys, "--env_script", "env.sh", "app.py")


def test_a_syntax_error_is_shown_as_python_shows_it(capsys, folder):
    (folder / "wrong.py").write_text("x = 1\ny = (\n")
    with pytest.raises(SystemExit) as exit:
        main(["wrong.py"])
    _, err = capsys.readouterr()
    assert exit.value.code == 1
    assert f'File "{folder}/wrong.py", line 2' in err
    assert "runmem/cli" not in err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], ["run", "--help"], ["report", "--help"], ["metric", "--help"]]
)
def test_help_teaches_with_an_example(capsys, arguments):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    out, err = capsys.readouterr()
    assert (exit.value.code, err) == (0, "")
    assert "  runmem " in out


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    out = capsys.readouterr().out
    assert {name for parameter in command.params for name in parameter.opts if name.startswith("--")} <= set(
        out.replace(",", " ").split()
    )


def test_the_version_is_that_of_the_package(capsys):
    from runmem import __version__

    with pytest.raises(SystemExit) as exit:
        main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"runmem, version {__version__}\n"


def noted(folder, source: str, *arguments: str) -> list[str]:
    (folder / "app.py").write_text(source)
    return list(options_after_program(command, load_script(folder / "app.py"), arguments))


def test_an_option_after_the_program_is_noticed(folder):
    lines = noted(folder, "import sys", "--python_memory_profile", "data.csv", "--workers=4")
    assert [line.split()[0] for line in lines] == ["--python_memory_profile", "--workers"]
    assert "runmem --workers=4 ... " in lines[1]


def test_an_option_that_the_program_itself_has_is_its_own(folder):
    assert noted(folder, "parser.add_argument('--workers')", "--workers=4") == []


def test_what_follows_two_dashes_and_what_is_no_option_of_ours_is_let_alone(folder):
    assert noted(folder, "", "--", "--workers=4") == []
    assert noted(folder, "", "--verbose", "workers", "-x") == []
