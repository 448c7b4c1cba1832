from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from runmem.cli.program import exit_code_of, load_script
from runmem.cli.termination import raise_on_signals
from runmem.errors import SettingError


def test_a_missing_program_is_named_with_the_folder_it_was_looked_for_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match=f"no program 'nope.py' here .{tmp_path}"):
        load_script(Path("nope.py"))


def test_a_folder_runs_its_main_module_and_is_imported_from_itself(tmp_path):
    (tmp_path / "__main__.py").write_text("print(1)")
    script = load_script(tmp_path)
    assert script.file == str(tmp_path / "__main__.py")
    assert script.import_folder == str(tmp_path)


def test_a_folder_without_a_main_module_is_no_program(tmp_path):
    with pytest.raises(SettingError, match="is a folder without a __main__.py"):
        load_script(tmp_path)


def test_imports_start_at_the_folder_that_a_symbolic_link_leads_to(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "app.py").touch()
    (tmp_path / "link.py").symlink_to(tmp_path / "real" / "app.py")
    script = load_script(tmp_path / "link.py")
    assert script.import_folder == str(tmp_path / "real")
    assert script.file == str(tmp_path / "link.py")


@pytest.mark.parametrize("name", ["tool.py", "tool"])
def test_a_binary_file_is_no_program(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x7fELF\x02\x01\0\0")
    with pytest.raises(SettingError, match="is a binary file"):
        load_script(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"), [("notes.txt", b"Dear all,\n"), ("latin.py", b"name = '\xe9'\n"), ("x.sh", b"cd /tmp && ls\n")]
)
def test_text_that_is_not_python_is_no_program(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingError, match="is not a Python program"):
        load_script(tmp_path / name)


def test_a_mistake_in_python_stays_a_syntax_error(tmp_path):
    (tmp_path / "app.py").write_text("x = (\n")
    with pytest.raises(SyntaxError):
        load_script(tmp_path / "app.py")


def test_the_declared_encoding_of_a_program_is_obeyed(tmp_path):
    (tmp_path / "app.py").write_bytes(b"# coding: latin-1\nname = '\xe9'\n")
    names: dict[str, object] = {}
    exec(load_script(tmp_path / "app.py").code, names)
    assert names["name"] == "é"


def test_an_unreadable_program_is_named_with_the_reason(tmp_path):
    (tmp_path / "app.py").symlink_to(tmp_path / "app.py")
    with pytest.raises(SettingError, match=r"app.py' cannot be read: .*symbolic link"):
        load_script(tmp_path / "app.py")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SystemExit(), 0), (SystemExit(None), 0), (SystemExit(3), 3), (SystemExit(-1), 255), (SystemExit(256), 0),
        (SystemExit(True), 1), (SystemExit("text"), 1), (SystemExit([1]), 1), (KeyboardInterrupt(), 130),
        (ValueError(), 1), (type("Below", (KeyboardInterrupt,), {})(), 1), (SystemExit(2**70), 255),
        (SystemExit(type("Odd", (int,), {"__and__": lambda *_: 1 / 0, "__index__": None})(3)), 3),
        (SystemExit(type("Odd", (), {"__str__": None, "__class__": property(lambda _: 1 / 0)})()), 1),
        (type("NoCode", (SystemExit,), {"code": property(lambda _: 1 / 0)})(5), 1),
    ],
)  # fmt: skip
def test_the_exit_code_is_that_of_python(error, code):
    assert exit_code_of(error) == code


def test_the_text_of_an_exit_goes_to_standard_error(capsys):
    exit_code_of(SystemExit("out of luck"))
    assert capsys.readouterr() == ("", "out of luck\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_what_is_terminable_by_an_exit(number):
    before = signal.signal(number, signal.SIG_DFL)  # `nohup` has one ignored
    try:
        with pytest.raises(SystemExit) as raised, raise_on_signals():
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert raised.value.code == 128 + number


def test_an_interrupt_can_be_made_such_an_exit_too():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as raised, raise_on_signals(signal.SIGINT):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert raised.value.code == 130


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exit_python_drops_is_known_to_the_caller():
    class Closed:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with raise_on_signals() as received:
            Closed()
        assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_signal_that_was_to_be_ignored_is_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raise_on_signals():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_handler_that_the_program_installed_stays():
    seen = []
    before = signal.getsignal(signal.SIGTERM)
    try:
        with raise_on_signals():
            signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
            os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is not before
    finally:
        signal.signal(signal.SIGTERM, before)


def test_nothing_of_this_process_was_changed_by_loading(tmp_path):
    (tmp_path / "app.py").write_text("import sys; sys.argv = ['changed']")
    before = list(sys.path), list(sys.argv), sys.modules["__main__"]
    load_script(tmp_path / "app.py")
    assert (sys.path, sys.argv, sys.modules["__main__"]) == before


def test_a_signal_ends_a_process_that_the_program_has_just_forked():
    """Python forgets a signal with a handler that reaches a process before it runs, and its parent waits for it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        with raise_on_signals() as received:
            for _ in range(50):
                pid = os.fork()
                if pid == 0:
                    try:
                        time.sleep(20)
                    finally:
                        os._exit(1)
                os.kill(pid, signal.SIGTERM)
                assert os.waitpid(pid, 0)[1] == signal.SIGTERM
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
        assert received == []
    finally:
        signal.signal(signal.SIGTERM, before)
