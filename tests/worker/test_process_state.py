"""A process follows the program: folder, environment, import path and the like, as they were at the call."""

from __future__ import annotations

import decimal
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runmem.errors import RunmemError
from runmem.shadowed import Shadowing, current_shadowing, library_module, shadow, stop_shadowing
from runmem.worker.process_state import FollowedProcess, become, follow, follow_no_more


@pytest.fixture(autouse=True)
def as_it_was(tmp_path: Path) -> Iterator[None]:
    folder, environment, paths, arguments = os.getcwd(), dict(os.environ), list(sys.path), list(sys.argv)
    limit, mask, context = sys.getrecursionlimit(), os.umask(0o022), decimal.getcontext().copy()
    os.umask(mask)
    os.chdir(tmp_path)
    yield
    follow_no_more()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:], sys.argv[:] = paths, arguments
    sys.setrecursionlimit(limit)
    os.umask(mask)
    decimal.setcontext(context)


def umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def test_all_that_is_followed_is_taken_on_and_changes_of_a_task_are_taken_back(tmp_path: Path) -> None:
    """The program and the process that follows it are the same here, at different times."""
    os.environ["RUNMEM_TEST_GONE"] = "x"
    program = FollowedProcess()
    here = tmp_path / "experiment"
    here.mkdir()
    before = program.packed()
    os.chdir(here)
    os.environ["RUNMEM_TEST"] = "set"
    del os.environ["RUNMEM_TEST_GONE"]
    sys.path.insert(0, str(here / "library"))
    sys.argv[1:] = ["more"]
    sys.setrecursionlimit(5000)
    os.umask(0o077)
    decimal.getcontext().prec = 50
    after = program.packed()
    assert program.packed() is after

    follow(elsewhere=False, import_paths=[str(here / "library")])
    for packed, changed in ((before, False), (after, True), (before, False), (after, True)):
        for _ in range(2):
            become(packed)
            assert Path.cwd() == (here if changed else tmp_path)
            assert (str(here / "library") in sys.path, sys.argv[1:] == ["more"]) == (changed, changed)
            assert umask() == (0o077 if changed else 0o022)
            if changed:
                assert (os.environ.get("RUNMEM_TEST"), os.environ.get("RUNMEM_TEST_GONE")) == ("set", None)
                assert (sys.getrecursionlimit(), decimal.getcontext().prec) == (5000, 50)
            else:
                assert decimal.getcontext().prec == 28
            os.chdir("/")
            os.environ["RUNMEM_TEST"] = "of the task"
            sys.argv.append("of the task")
            sys.setrecursionlimit(3000)


def test_a_variable_that_the_program_sets_back_is_set_back_on_workers_that_began_later() -> None:
    program = FollowedProcess()
    os.environ["RUNMEM_TEST"] = "set"
    program.packed()
    follow(elsewhere=False)  # a worker that was started now has it from its start
    del os.environ["RUNMEM_TEST"]
    packed = program.packed()
    os.environ["RUNMEM_TEST"] = "set"
    become(packed)
    assert "RUNMEM_TEST" not in os.environ


def test_a_folder_that_is_not_there_is_named_with_the_node(tmp_path: Path) -> None:
    program = FollowedProcess()
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    packed = program.packed()
    os.chdir(tmp_path)
    gone.rmdir()
    for elsewhere in (True, False):
        follow(elsewhere=elsewhere)
        with pytest.raises(RunmemError, match=r"gone'?, and on node .* cannot be entered \(No such file"):
            become(packed)


def test_elsewhere_the_folder_that_the_program_was_started_in_need_not_be_there(tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.mkdir()
    os.chdir(start)
    packed = FollowedProcess().packed()
    os.chdir(tmp_path)
    start.rmdir()
    follow(elsewhere=True)
    become(packed)
    assert Path.cwd() == tmp_path


def test_where_nobody_follows_a_change_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = FollowedProcess(is_followed=False)
    program.packed()
    assert capsys.readouterr().err == ""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        os.chdir(tmp_path / name)
        program.packed()
    told = capsys.readouterr().err
    assert told.count("runmem: note:") == 1
    assert "--nthreads 1" in told


def test_a_process_that_follows_nothing_stays_as_it_is(tmp_path: Path) -> None:
    packed = FollowedProcess().packed()
    os.chdir("/")
    become(packed)
    assert Path.cwd() == Path("/")


def test_a_process_that_follows_nothing_finds_the_programs_modules_all_the_same(tmp_path: Path) -> None:
    """A worker with several threads: which of two modules of a name is meant is the same for all its calls."""
    (tmp_path / "queue.py").touch()
    queue = sys.modules["queue"]
    try:
        shadow(Shadowing(str(tmp_path), ("queue",)))
        packed = FollowedProcess().packed()
        stop_shadowing(forget=True)  # as in another process
        shadow(Shadowing(str(tmp_path)))
        follow_no_more()
        become(packed)
        assert current_shadowing() == Shadowing(str(tmp_path), ("queue",))
        assert library_module("queue") is queue
    finally:
        stop_shadowing(forget=True)
    assert sys.modules["queue"] is queue
