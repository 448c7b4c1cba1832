"""Random programs that read and write real files give what they give when they run one call after the other."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runmem.errors import ArgumentError
from runmem.graph.current import current_program, set_current_program
from runmem.graph.directions import FILE_IN, FILE_INOUT, FILE_OUT, INOUT
from runmem.graph.synchronise import open_file, wait_on, wait_on_file
from runmem.graph.task import task


@task(path=FILE_OUT)
def write(path, text):
    Path(path).write_text(text)


@task(path=FILE_INOUT)
def append(path, text):
    with open(path, "a") as file:
        file.write(text)


@task(path=FILE_IN, returns=1)
def read(path):
    return os.path.basename(path), Path(path).read_text()


@task(source=FILE_IN, target=FILE_OUT, returns=1)
def copy(source, target):
    text = Path(source).read_text()
    Path(target).write_text(text)
    return text


@task(paths=FILE_IN, varargs_type=FILE_IN, returns=1)
def read_all(*paths):
    return [Path(path).read_text() for path in paths]


def run_random_program(seed: int, folder: Path, length: int = 25) -> list[Any]:  # noqa: C901 - a branch for each action
    """Run a program of random calls on three files and return all that it has seen, the files at the end too."""
    choose = random.Random(seed)
    folder.mkdir()
    names = ["a", "b", "c"]
    (folder / "a").write_text("a0 ")
    seen: list[Any] = []
    there = {"a"}
    for step in range(length):
        name, other = choose.choice(names), choose.choice(names)
        path = folder / name
        action = choose.choice(("write", "append", "append", "read", "read", "copy", "all", "look", "change", "settle"))
        if action == "write":
            write(choose.choice((str(path), path)), f"w{step} ")
            there.add(name)
        elif name not in there:
            continue
        elif action == "append":
            append(path, f"+{step} ")
        elif action == "read":
            seen.append(read(path=str(path)))
        elif action == "copy" and name != other:
            seen.append(copy(path, target=folder / other))
            there.add(other)
        elif action == "all":
            seen.append(read_all(*(folder / name for name in sorted(there))))
        elif action == "look":
            with open_file(path) as file:
                seen.append(file.read())
        elif action == "change":
            with open_file(path, "a") as file:
                file.write(f"p{step} ")
        elif action == "settle":
            seen.append(Path(wait_on_file(path)).read_text())
    end = [Path(wait_on_file(folder / name)).read_text() for name in sorted(there)]
    return [*wait_on(seen), *end]


@pytest.mark.parametrize("block", range(5))
def test_random_programs_see_what_sequential_ones_see(
    block: int, start_program: Callable[..., Any], tmp_path: Path
) -> None:
    for seed in range(block * 40, block * 40 + 40):
        set_current_program(None)
        expected = run_random_program(seed, tmp_path / f"plain{seed}")
        start_program(seed, again=0.3)
        assert run_random_program(seed, tmp_path / f"tasks{seed}") == expected, f"seed {seed}"


def test_the_end_of_the_program_brings_every_file_into_place(start_program: Callable[..., Any], tmp_path: Path) -> None:
    start_program()
    write(tmp_path / "a", "1")
    append(tmp_path / "a", "2")
    write(tmp_path / "sub" / "b", "3")
    current_program().settle_all_files()
    assert (tmp_path / "a").read_text() == "12"
    assert (tmp_path / "sub" / "b").read_text() == "3"


def test_a_call_may_name_one_file_twice(start_program: Callable[..., Any], tmp_path: Path) -> None:
    @task(target=FILE_OUT, source=FILE_IN)
    def double(target, source):
        text = Path(source).read_text()
        Path(target).write_text(text * 2)

    @task(a=FILE_INOUT, b=FILE_INOUT)
    def both(a, b):
        Path(a).write_text(Path(b).read_text() + "!")

    start_program()
    path = tmp_path / "a"
    path.write_text("x")
    double(path, path)
    both(path, os.path.relpath(path))
    with open_file(path) as file:
        assert file.read() == "xx!"


def test_a_reader_keeps_its_version_when_the_program_takes_the_file(
    start_program: Callable[..., Any], tmp_path: Path
) -> None:
    """The reader has not run yet when the program opens the version that it is to read, and writes to it."""
    submitter = start_program()
    path = tmp_path / "a"
    path.write_text("0")
    append(path, "1")
    late = read(path)
    submitter.wait([submitter.calls[0].execution])
    wait_on_file(path)
    assert path.read_text() == "01"
    with open_file(path, "a") as file:
        file.write("2")
    assert wait_on(late) == ("a", "01")
    assert path.read_text() == "012"


def test_a_call_that_cannot_be_sent_leaves_the_file_as_it_was(
    start_program: Callable[..., Any], tmp_path: Path
) -> None:
    start_program()
    path = tmp_path / "a"
    path.write_text("0")
    with pytest.raises(TypeError, match="pickle"):
        append(path, (i for i in range(3)))
    with pytest.raises(TypeError, match="pickle"):
        write(tmp_path / "new", (i for i in range(3)))
    append(path, "1")
    assert Path(wait_on_file(path)).read_text() == "01"


def test_a_failed_writer_is_told_by_the_wait_and_leaves_the_file(
    start_program: Callable[..., Any], tmp_path: Path
) -> None:
    @task(path=FILE_INOUT)
    def spoil(path):
        Path(path).write_text("spoiled")
        raise KeyError("half way")

    start_program()
    path = tmp_path / "a"
    path.write_text("0")
    spoil(path)
    with pytest.raises(KeyError, match="half way"):
        wait_on_file(path)
    assert path.read_text() == "0"
    with pytest.raises(KeyError, match="half way"):
        wait_on(read(path))
    current_program().settle_all_files()


def test_a_failed_reader_does_not_keep_a_file_from_its_place(start_program: Callable[..., Any], tmp_path: Path) -> None:
    @task(path=FILE_IN, returns=1)
    def fail(path):
        raise KeyError("cannot read")

    start_program()
    path = tmp_path / "a"
    path.write_text("0")
    failed = fail(path)
    append(path, "1")
    assert Path(wait_on_file(path)).read_text() == "01"
    with pytest.raises(KeyError, match="cannot read"):
        wait_on(failed)


@pytest.mark.parametrize("given", [5, None, ["a"], b"a"])
def test_what_is_no_path_is_refused_with_the_parameter(given: Any, submitter: Any) -> None:
    with pytest.raises(ArgumentError, match=r"read: parameter 'path' is declared FILE_IN, so it takes a path; it was"):
        read(given)
    with pytest.raises(ArgumentError, match=r"parameter 'paths\[1\]' is declared FILE_IN"):
        read_all("a", given)
    assert not submitter.calls


def test_a_task_gets_the_type_of_path_that_it_was_given(start_program: Callable[..., Any], tmp_path: Path) -> None:
    @task(first=FILE_IN, second=FILE_IN, returns=1)
    def kinds(first, second):
        return isinstance(first, Path), isinstance(second, str)

    start_program()
    assert wait_on(kinds(tmp_path / "a", str(tmp_path / "b"))) == (True, True)


def test_a_default_path_is_a_file_too(
    start_program: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @task(path=FILE_OUT, log=INOUT)
    def out(text, path="default.txt", log=None):
        Path(path).write_text(text)

    start_program()
    monkeypatch.chdir(tmp_path)
    out("x")
    monkeypatch.chdir("/")
    assert Path(wait_on_file(tmp_path / "default.txt")).read_text() == "x"


def test_a_file_written_first_lies_in_place_and_keeps_its_name(
    start_program: Callable[..., Any], tmp_path: Path
) -> None:
    submitter = start_program()
    write(tmp_path / "new.txt", "1")
    append(tmp_path / "new.txt", "2")
    reading = read(tmp_path / "new.txt")
    submitter.wait(None)
    assert (tmp_path / "new.txt").read_text() == "1"
    assert wait_on(reading) == ("new.txt", "12")
