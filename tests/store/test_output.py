from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runmem.errors import SettingError
from runmem.store.output import check_folder, check_output, link_file, place_file, resolve, write_file

NOBODY = 65534
REFUSALS = {
    "folder": "it is a folder", "link to a folder": "it is a folder", "socket": "it is a socket",
    "block device": "it is a block device",
}  # fmt: skip


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write(path: Path) -> bytes:
    write_file(path, "new \N{MICRO SIGN}\n")
    return "new \N{MICRO SIGN}\n".encode()


def copy(path: Path) -> bytes:
    place_file(source_for(path), path, share=False)
    return b"version"


def share(path: Path) -> bytes:
    place_file(source_for(path), path, share=True)
    return b"version"


def source_for(path: Path) -> Path:
    source = path.parent / "versions" / "v1"
    source.parent.mkdir()
    source.write_bytes(b"version")
    source.chmod(0o600)
    return source


@pytest.fixture(params=[write, copy, share])
def writer(request: pytest.FixtureRequest) -> Callable[[Path], bytes]:
    """Return each function that writes a file; it returns the written content."""
    return request.param


def test_what_is_there_is_written_to_and_stays_what_it_is(
    writer: Any, written_kind: str, make_target: Any, tmp_path: Path
) -> None:
    target = make_target(written_kind, tmp_path / "out.txt")
    written = writer(target.path)
    target.check()
    if target.keeps_content:
        assert target.content() == written


def test_what_cannot_be_written_to_is_refused_and_stays(
    writer: Any, refused_kind: str, make_target: Any, tmp_path: Path
) -> None:
    target = make_target(refused_kind, tmp_path / "out.txt")
    with pytest.raises(OSError, match=REFUSALS[refused_kind]) as raised:
        writer(target.path)
    assert raised.value.filename == str(target.path)
    target.check()


def test_an_option_is_refused_before_anything_is_written(refused_kind: str, make_target: Any, tmp_path: Path) -> None:
    target = make_target(refused_kind, tmp_path / "out.txt")
    with pytest.raises(SettingError, match=rf"--output .*out\.txt cannot be written: {REFUSALS[refused_kind]}\. Name"):
        check_output(target.path, "--output")
    target.check()


def test_an_option_is_taken_where_it_can_be_written(written_kind: str, make_target: Any, tmp_path: Path) -> None:
    target = make_target(written_kind, tmp_path / "out.txt")
    check_output(target.path, "--output")
    target.check()
    check_output(tmp_path / "no" / "folder" / "yet", "--output")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("name", ["file/out", "circle", "file/no/out", "n" * 300, "a\0b"])
def test_a_path_that_no_file_can_have_is_refused_with_the_option(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(SettingError, match=r"^--output .* cannot be written: .*\. Name another file\.$"):
        check_output(tmp_path / name, "--output")


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_that_the_umask_leaves(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "written")
        copy(tmp_path / "copied")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "written") == 0o666 & ~umask
    assert mode_of(tmp_path / "copied") == 0o600  # as its source


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755, 0o2770])
def test_owner_group_and_mode_stay(writer: Any, mode: int, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    if os.getuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    path.chmod(mode)
    before = path.stat()
    writer(path)
    after = path.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


def test_the_access_list_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    done = subprocess.run(["setfacl", "-m", "u:1234:rw", str(path)], capture_output=True) if _finds("setfacl") else None
    if done is None or done.returncode:
        pytest.skip("needs setfacl and a file system with access lists")
    write(path)
    assert "user:1234:rw" in subprocess.run(["getfacl", "-n", str(path)], capture_output=True, text=True).stdout


def _finds(program: str) -> bool:
    return any(os.access(os.path.join(folder, program), os.X_OK) for folder in os.environ["PATH"].split(os.pathsep))


def test_attributes_of_users_stay(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    try:
        os.setxattr(path, "user.origin", b"telescope")
    except (OSError, AttributeError) as error:
        pytest.skip(f"no attributes here: {error}")
    write(path)
    assert os.getxattr(path, "user.origin") == b"telescope"


def test_a_version_may_bring_a_mode_of_its_own(tmp_path: Path) -> None:
    for name, shared in (("a", False), ("b", True)):
        path = tmp_path / name
        path.write_text("old")
        path.chmod(0o444)
        source = tmp_path / f"v{name}"
        source.write_text("new")
        source.chmod(0o755)
        place_file(source, path, shared, own_mode=True)
        assert (path.read_text(), mode_of(path)) == ("new", 0o755)


def test_the_longest_name_can_be_written(writer: Any, tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    path.write_bytes(b"old")
    assert writer(path) == path.read_bytes()


def test_other_hard_links_keep_the_old_content(writer: Any, tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "other"
    path.write_text("old")
    os.link(path, other)
    writer(path)
    assert other.read_text() == "old"
    assert not os.path.samefile(path, other)


def test_a_shared_file_is_one_file_on_the_disk_and_nothing_else_is_it(tmp_path: Path) -> None:
    path, source = tmp_path / "a", source_for(tmp_path / "a")
    place_file(source, path, share=True)
    assert os.path.samefile(source, path)
    place_file(source, tmp_path / "b", share=True)  # of which there are two names now
    assert not os.path.samefile(source, tmp_path / "b")
    (tmp_path / "link").symlink_to(source)
    place_file(tmp_path / "link", tmp_path / "c", share=True)
    assert (tmp_path / "c").read_bytes() == b"version"
    assert not (tmp_path / "c").is_symlink()


def test_linking_where_it_is_linked_already_leaves_no_rest(tmp_path: Path) -> None:
    source = source_for(tmp_path / "a")
    link_file(source, tmp_path / "a")
    with pytest.raises(OSError, match="other hard links"):
        link_file(source, tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == ["a", "versions"]


def test_a_copy_has_the_time_of_its_source(tmp_path: Path) -> None:
    source = source_for(tmp_path / "a")
    os.utime(source, (1, 2))
    place_file(source, tmp_path / "a", share=False)
    assert (tmp_path / "a").stat().st_mtime == 2


def test_readers_see_the_old_content_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    contents = [bytes([number]) * 300_000 for number in (65, 66)]
    write_file(path, contents[0])
    seen, stop = set(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    number = 0
    while number < 100 or len(seen) < 2:
        number += 1
        write_file(path, contents[number % 2])
    stop.set()
    reader.join()
    assert seen == set(contents)


def test_what_cannot_be_encoded_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_file(path, "\udc80")
    assert path.read_text() == "old"


def test_a_full_disk_leaves_the_old_content_and_no_rest(tmp_path: Path, small_file_system: Path) -> None:
    path = small_file_system / "a"
    path.write_text("old")
    source = tmp_path / "large"
    source.write_bytes(b"x" * (4 << 20))
    for attempt in (lambda: write_file(path, b"x" * (4 << 20)), lambda: place_file(source, path, share=True)):
        with pytest.raises(OSError, match="No space left") as raised:
            attempt()
        assert raised.value.errno == errno.ENOSPC
    assert path.read_text() == "old"
    assert os.listdir(small_file_system) == ["a"]


def test_a_device_that_accepts_no_data_raises(tmp_path: Path, make_target: Any) -> None:
    make_target("device", tmp_path / "null")
    os.mknod(tmp_path / "full", 0o666 | stat.S_IFCHR, os.makedev(1, 7))
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "full", "x")
    assert stat.S_ISCHR((tmp_path / "full").stat().st_mode)


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)):
        yield folder


class mounted:  # noqa: N801 - a context manager
    def __init__(self, *arguments: str) -> None:
        self.arguments = arguments

    def __enter__(self) -> None:
        done = subprocess.run(["mount", *self.arguments], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")

    def __exit__(self, *exception: object) -> None:
        subprocess.run(["umount", "-l", self.arguments[-1]], check=True)


def test_a_file_that_is_a_mount_point_is_written_over(writer: Any, tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.touch()
    outside.write_bytes(b"old" * 100)
    with mounted("--bind", str(outside), str(inside)):
        written = writer(inside)
        assert inside.read_bytes() == written
    assert outside.read_bytes() == written
    assert inside.read_bytes() == b""


# --- as an unprivileged user ------------------------------------------------------------------------------------------


@pytest.fixture
def as_nobody() -> Iterator[tuple[Path, Callable[[Callable[[], Any]], None]]]:
    """Return a folder of an ordinary user, and a function that calls another as that user, for root in a child.

    An assertion that fails there, or another error, fails the test.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if os.getuid() == 0:
            folder.chmod(0o755)
            os.chown(folder, NOBODY, NOBODY)

        def call(action: Callable[[], Any]) -> None:
            if os.getuid() != 0:
                action()
                return
            child = os.fork()
            if not child:
                try:
                    os.setgroups([])
                    os.setgid(NOBODY)
                    os.setuid(NOBODY)
                    action()
                except BaseException as error:
                    print(f"{type(error).__name__}: {error}", file=sys.__stderr__, flush=True)
                    os._exit(1)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

        yield folder, call
        folder.chmod(0o755)


def test_in_a_folder_that_takes_no_new_file_it_is_written_over(as_nobody: Any) -> None:
    folder, call = as_nobody

    def act() -> None:
        path = folder / "a"
        path.write_text("old and longer")
        folder.chmod(0o555)
        check_output(path, "--output")
        number = path.stat().st_ino
        write_file(path, "new")
        assert path.read_text() == "new"
        assert path.stat().st_ino == number
        with pytest.raises(SettingError, match=r"out cannot be written: the folder .* is write-protected\. Name"):
            check_output(folder / "out", "--output")
        with pytest.raises(PermissionError):
            write_file(folder / "out", "new")

    call(act)


def test_what_has_other_names_is_not_written_over(as_nobody: Any) -> None:
    folder, call = as_nobody

    def act() -> None:
        path, other = folder / "closed" / "a", folder / "other"
        path.parent.mkdir()
        path.write_text("old")
        os.link(path, other)
        path.parent.chmod(0o555)
        with pytest.raises(PermissionError, match="other hard links, which would change too"):
            write_file(path, "new")
        with pytest.raises(SettingError, match="other hard links"):
            check_output(path, "--output")
        assert path.read_text() == other.read_text() == "old"
        path.parent.chmod(0o755)

    call(act)


def test_a_write_protected_file_is_not_replaced(as_nobody: Any) -> None:
    folder, call = as_nobody

    def act() -> None:
        path, source = folder / "a", folder / "v"
        path.write_text("old")
        path.chmod(0o444)
        source.write_text("new")
        for attempt in (
            lambda: write_file(path, "new"),
            lambda: place_file(source, path, share=True),
            lambda: place_file(source, path, share=False),
        ):
            with pytest.raises(PermissionError, match="it is write-protected"):
                attempt()
        with pytest.raises(SettingError, match="it is write-protected"):
            check_output(path, "--figure")
        assert path.read_text() == "old"
        assert sorted(os.listdir(folder)) == ["a", "v"]

    call(act)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of two users")
@pytest.mark.parametrize(("mode", "owner", "refused"), [
    (0o1777, NOBODY, True), (0o1777, os.getuid(), False), (0o755, NOBODY, False), (0o777, NOBODY, False),
])  # fmt: skip
def test_a_link_of_another_user_in_a_folder_for_everybody_is_not_followed(
    mode: int, owner: int, refused: bool, tmp_path: Path
) -> None:
    shared, mine, source = tmp_path / "shared", tmp_path / "mine", tmp_path / "source"
    shared.mkdir()
    shared.chmod(mode)
    mine.write_text("mine")
    source.write_text("new")
    link = shared / "node.dat"
    link.symlink_to(mine)
    os.lchown(link, owner, -1)
    for attempt in (
        lambda: write_file(link, "new"),
        lambda: place_file(source, link, share=False),
        lambda: link_file(source, link),
    ):
        mine.write_text("mine")
        if refused:
            with pytest.raises(PermissionError, match="a symbolic link of another user"):
                attempt()
        else:
            attempt()
        assert mine.read_text() == ("mine" if refused else "new")
    if refused:
        with pytest.raises(SettingError, match="--output .* cannot be written: it is a symbolic link of another"):
            check_output(link, "--output")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of two users")
def test_another_users_file_is_overwritten_if_its_owner_would_change(as_nobody: Any) -> None:
    folder, call = as_nobody
    path, source = folder / "a", folder / "v"
    path.write_text("old and longer")
    path.chmod(0o666)
    source.write_text("version")
    before = path.stat()

    def act() -> None:
        write_file(path, "new")
        assert path.read_text() == "new"
        place_file(source, path, share=True)
        assert path.read_text() == "version"
        assert sorted(os.listdir(folder)) == ["a", "v"]

    call(act)
    after = path.stat()
    assert (after.st_uid, after.st_mode, after.st_ino) == (before.st_uid, before.st_mode, before.st_ino)
    assert source.stat().st_uid == os.getuid()


# --- open files of a process ------------------------------------------------------------------------------------------


WRITES = """
import os, sys
from runmem.store.output import write_file
print("first", flush=True)
write_file({path!r}, "second\\n")
print("third", flush=True)
"""


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
@pytest.mark.parametrize("to", ["file", "pipe"])
def test_standard_output_is_written_to_where_it_is(path: str, to: str, tmp_path: Path) -> None:
    if not os.path.exists(path) and path != "link":
        pytest.skip(f"there is no {path} here")
    (tmp_path / "link").symlink_to("/dev/stdout")
    command = [sys.executable, "-c", WRITES.format(path=path)]
    if to == "pipe":
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout == "first\nsecond\nthird\n"
        return
    with (tmp_path / "log").open("w") as log:
        assert subprocess.run(command, cwd=tmp_path, stdout=log).returncode == 0
    assert (tmp_path / "log").read_text() == "first\nsecond\nthird\n"


# --- names ------------------------------------------------------------------------------------------------------------


def test_all_paths_to_a_file_resolve_to_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path / "data" / "deep"
    real.mkdir(parents=True)
    (real / "a").touch()
    (tmp_path / "way").symlink_to("data/deep")
    (tmp_path / "a").symlink_to("way/a")
    (real / "b").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    for path in ("a", "./a", "way/a", "way/b", "way/../deep/a", str(real / "a"), "data//deep/./a"):
        assert resolve(path).real == str(real / "a"), path
        assert os.path.samefile(resolve(path).path, real / "a")
        assert os.path.isabs(resolve(path).path)
    (tmp_path / "later").symlink_to("way/new")
    assert resolve("later").real == str(real / "new")
    assert resolve("later").status is None


def test_a_folder_is_checked_without_touching_what_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    check_folder(folder)
    assert os.listdir(folder) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="File exists|Not a directory"):
        check_folder(tmp_path / "file")
