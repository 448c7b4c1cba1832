"""Random programs that read and write real files give what they give when they run one call after the other."""

from __future__ import annotations

import os
import random
import re
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runmem.errors import ArgumentError, FilePlacementError
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
    ways = ("{}", "way/{}", "link {}", "way/link {}")
    (folder / "way").symlink_to(".")
    for name in names:
        (folder / f"link {name}").symlink_to(f"way/{name}")
    (folder / "a").write_text("a0 ")
    seen: list[Any] = []
    there = {"a"}
    for step in range(length):
        name, other = choose.choice(names), choose.choice(names)
        path = folder / choose.choice(ways).format(name)
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
            seen.append(copy(path, target=folder / choose.choice(ways).format(other)))
            there.add(other)
        elif action == "all":
            seen.append(read_all(*(folder / choose.choice(ways).format(name) for name in sorted(there))))
        elif action == "look":
            with open_file(path) as file:
                seen.append(file.read())
        elif action == "change":
            with open_file(path, "a") as file:
                file.write(f"p{step} ")
        elif action == "settle":
            seen.append(Path(wait_on_file(path)).read_text())
    assert all((folder / f"link {name}").is_symlink() for name in names)
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
    current_program().place_all_files()
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
        append(path, threading.Lock())
    with pytest.raises(TypeError, match="pickle"):
        write(tmp_path / "new", threading.Lock())
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
    current_program().place_all_files()


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


@pytest.mark.parametrize("given", [5, ["a"], b"a"])
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


@task(path=FILE_OUT)
def touch(path):
    Path(path).write_text("touched")


@pytest.mark.parametrize("kind", ["device", "pipe", "link to a device"])
def test_what_has_no_content_of_its_own_is_written_through(
    kind: str, start_program: Callable[..., Any], make_target: Any, tmp_path: Path
) -> None:
    @task(path=FILE_IN, returns=1)
    def name_of(path):
        return str(path)

    submitter = start_program()
    target = make_target(kind, tmp_path / "out")
    write(target.path, "1")
    append(str(target.path), "2")
    assert wait_on(name_of(target.path)) == str(target.path)
    wait_on_file(target.path)
    assert all(call.execution.state.ended for call in submitter.calls)
    current_program().place_all_files()
    assert [(call.files, call.after) for call in submitter.calls] == [((), ())] * 3
    target.check()
    if target.keeps_content:
        assert target.content() in (b"12", b"21")
    assert not (tmp_path / "versions").exists()


def test_the_error_of_a_task_that_writes_to_a_device_is_raised_by_the_wait(
    start_program: Callable[..., Any], make_target: Any, tmp_path: Path
) -> None:
    @task(path=FILE_OUT)
    def fail(path):
        raise KeyError("no paper")

    start_program()
    target = make_target("device", tmp_path / "printer")
    fail(target.path)
    with pytest.raises(KeyError, match="no paper"):
        wait_on_file(target.path)


def test_a_task_cannot_write_what_is_no_file(
    refused_kind: str, submitter: Any, make_target: Any, tmp_path: Path
) -> None:
    target = make_target(refused_kind, tmp_path / "out")
    is_what = refused_kind.removeprefix("link to a ")
    for call, parameter in ((touch, "FILE_OUT"), (lambda path: append(path, "x"), "FILE_INOUT")):
        with pytest.raises(
            ArgumentError,
            match=rf"^(touch|append): parameter 'path' is declared {parameter}, .*/out' is a {is_what}: give the path",
        ):
            call(target.path)
    assert not submitter.calls
    target.check()


def test_a_folder_may_be_read(start_program: Callable[..., Any], tmp_path: Path) -> None:
    @task(path=FILE_IN, returns=1)
    def names_in(path):
        return sorted(os.listdir(path))

    start_program()
    (tmp_path / "data" / "a").mkdir(parents=True)
    assert wait_on(names_in(tmp_path / "data")) == ["a"]


@pytest.mark.parametrize(("path", "reason"), [("circle", "symbolic links"), ("a\0b", "null")])
def test_a_path_that_no_file_can_have_is_refused(path: str, reason: str, submitter: Any, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(
        ArgumentError, match=rf"touch: parameter 'path' .* cannot be used: .*{reason}.*Give another path"
    ):
        touch(str(tmp_path / path))
    assert not submitter.calls


@pytest.mark.parametrize("program_writes", [False, True])
@pytest.mark.parametrize("mode", [0o640, 0o755, 0o600])
def test_a_new_version_has_the_mode_and_the_owner_of_the_file(
    mode: int, program_writes: bool, start_program: Callable[..., Any], tmp_path: Path
) -> None:
    @task(path=FILE_INOUT, returns=1)
    def extend(path):
        append.function(path, "+")
        return stat.S_IMODE(os.stat(path).st_mode)

    start_program()
    path = tmp_path / "a"
    path.write_text("0")
    if os.getuid() == 0:
        os.chown(path, 1234, 4321)
    path.chmod(mode)
    before = path.stat()
    assert wait_on(extend(path)) == mode
    write(path, "1")
    if program_writes:
        open_file(path, "a").close()
    wait_on_file(path)
    after = path.stat()
    assert path.read_text() == "1"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_what_a_task_makes_of_the_mode_stays(start_program: Callable[..., Any], tmp_path: Path) -> None:
    @task(path=FILE_INOUT)
    def make_executable(path):
        os.chmod(path, 0o750)

    @task(path=FILE_OUT)
    def write_privately(path):
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write("secret")

    start_program()
    (tmp_path / "script").write_text("true")
    make_executable(tmp_path / "script")
    append(tmp_path / "script", "\n")
    write_privately(tmp_path / "new")
    append(tmp_path / "new", "!")
    current_program().place_all_files()
    assert (tmp_path / "script").read_text() == "true\n"
    assert stat.S_IMODE((tmp_path / "script").stat().st_mode) == 0o750
    assert (tmp_path / "new").read_text() == "secret!"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_a_task_that_replaces_a_file_by_a_link_gives_its_content(
    start_program: Callable[..., Any], tmp_path: Path
) -> None:
    @task(path=FILE_OUT)
    def link_to(path, source):
        os.symlink(source, path)

    submitter = start_program()
    (tmp_path / "source").write_text("mine")
    (tmp_path / "a").write_text("0")
    link_to(tmp_path / "a", str(tmp_path / "source"))
    wait_on_file(tmp_path / "a")
    submitter.run_again(submitter.calls[0].execution)
    append(tmp_path / "a", "+")
    wait_on_file(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "mine+"
    assert (tmp_path / "source").read_text() == "mine"


def test_a_task_that_runs_again_leaves_the_version_in_place_alone(
    start_program: Callable[..., Any], tmp_path: Path
) -> None:
    """Both are one file on the disk, until the task writes its version anew."""
    texts = iter(["first", "second"])

    @task(path=FILE_INOUT)
    def rewrite(path):
        Path(path).write_text(next(texts))

    submitter = start_program()
    path = tmp_path / "a"
    path.write_text("0")
    rewrite(path)
    wait_on_file(path)
    submitter.run_again(submitter.calls[0].execution)
    assert Path(submitter.calls[0].files[0].path).read_text() == "second"
    assert path.read_text() == "first"


def test_a_version_that_cannot_be_put_in_place_is_told_once(start_program: Callable[..., Any], tmp_path: Path) -> None:
    submitter = start_program()
    for name in ("a", "b"):
        (tmp_path / name).write_text("0")
        append(tmp_path / name, "1")
    submitter.wait(None)
    for name in ("a", "b"):  # the program makes something else of them meanwhile
        (tmp_path / name).unlink()
        (tmp_path / name).mkdir()
    with pytest.raises(
        FilePlacementError, match=r"/a cannot be replaced by its new version: it is a folder\. Copy it from .*/a\."
    ) as seen:
        wait_on_file(tmp_path / "a")
    (version,) = re.findall(r"from (.*)\.$", str(seen.value))
    assert Path(version).read_text() == "01"
    (misplaced,) = current_program().place_all_files()
    assert f"{tmp_path}/b cannot be replaced by its new version" in str(misplaced)
    assert (tmp_path / "a").is_dir()


def test_a_task_that_writes_no_file_leaves_the_old_one(start_program: Callable[..., Any], tmp_path: Path) -> None:
    @task(path=FILE_OUT)
    def write_nothing(path):
        pass

    start_program()
    path = tmp_path / "a"
    path.write_text("0")
    write_nothing(path)
    with pytest.raises(FileNotFoundError, match=f"the task wrote no file for {path}"):
        wait_on_file(path)
    assert current_program().place_all_files() == []
    assert path.read_text() == "0"
