"""Write files at paths that users name. No other module does so.

The result depends on the target of the path. Symbolic links are followed and kept.

- Nothing: the new file appears as a whole, with the mode that the umask allows.
- A regular file: a reader sees the old or the new content, never a mixture. Owner, group, mode and access list are
  kept. It is replaced by a new file, so that other hard links, which may belong to another run, keep the old content.
  If the folder accepts no new file, or the owner would change, the file is overwritten instead, unless it has other
  hard links.
- A character device, a named pipe, or an open file of a process (``/dev/stdout``): it is written through.
- A folder, a socket, a block device, or a write-protected file: it is refused, with an `OSError`.

Limitations: while a file is overwritten, or if that fails, its content is incomplete. Only the access list and user
attributes are kept.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from runmem.errors import SettingError

__all__ = [
    "ResolvedPath", "resolve", "write_file", "place_file", "place_folder", "link_file", "check_output", "check_folder",
]  # fmt: skip

_OPEN_FILE = re.compile(r"(?:/proc/(\d+)(?:/task/\d+)?/fd|/dev/fd)/(\d+)")
_MOST_LINKS = 40  # as in Linux
_OBSTACLES = {stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a block device"}
_OVERWRITE_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY}  # EBUSY: the file is a mount point
_KEPT_ATTRIBUTES = ("user.", "system.posix_acl_access")

Fill = Callable[[BinaryIO], object]


class ResolvedPath(NamedTuple):
    """A path and the file that it leads to.

    Attributes
    ----------
    path : str
        The path as given, made absolute.
    real : str
        The path without symbolic links.
    status : os.stat_result or None
        Status of the file; None if it does not exist.
    """

    path: str
    real: str
    status: os.stat_result | None

    @property
    def is_open_file(self) -> bool:
        """Whether it is an open file of a process, such as ``/dev/stdout``."""
        return _OPEN_FILE.fullmatch(self.real) is not None

    @property
    def is_pipe(self) -> bool:
        """Whether it is a named pipe."""
        return self.status is not None and stat.S_ISFIFO(self.status.st_mode)

    @property
    def is_stream(self) -> bool:
        """Whether it is written through: a device, a pipe, or an open file of a process."""
        return self.is_pipe or self.is_open_file or (self.status is not None and stat.S_ISCHR(self.status.st_mode))

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)

    @property
    def obstacle(self) -> str | None:
        """Its kind, such as ``a folder``, if it can be neither replaced nor written through."""
        if self.status is None or self.is_open_file:
            return None
        return _OBSTACLES.get(stat.S_IFMT(self.status.st_mode))

    def check(self, protected_too: bool = False) -> None:
        """Raise `OSError` if writing is refused; with `protected_too` a write-protected file may be replaced."""
        if self.obstacle is not None:
            number = errno.EISDIR if self.obstacle == _OBSTACLES[stat.S_IFDIR] else errno.EINVAL
            raise OSError(number, f"it is {self.obstacle}", self.path)
        if protected_too or self.status is None or self.is_open_file:
            return
        if not os.access(self.real, os.W_OK):
            raise PermissionError(errno.EACCES, "it is write-protected", self.path)


def resolve(path: str | os.PathLike[str]) -> ResolvedPath:
    """Resolve a path.

    Raises OSError for a cycle of links, a folder without access, or a link of another user in a shared folder such as
    ``/tmp``. Raises ValueError for an invalid path.
    """
    name = os.fspath(path)
    try:
        status = os.stat(name)
    except (FileNotFoundError, NotADirectoryError):
        status = None
    return ResolvedPath(_absolute(name), _followed(name), status)


def _absolute(path: str) -> str:
    shown = os.path.abspath(path)
    if os.pardir in path and os.path.realpath(shown) != os.path.realpath(path):
        return os.path.join(os.getcwd(), path)  # after a link, .. is not the folder of the link
    return shown


def _followed(path: str) -> str:
    """Follow the links, but not those to open files of a process, which may have no name."""
    for _ in range(_MOST_LINKS):
        folder, name = os.path.split(path)
        if name in ("", os.curdir, os.pardir):
            break
        path = os.path.join(os.path.realpath(folder), name)
        if _OPEN_FILE.fullmatch(path):
            return path
        try:
            target = os.readlink(path)
        except OSError:  # not a link
            return path
        _check_link(path)
        path = os.path.join(os.path.dirname(path), target)
    return os.path.realpath(path)


def _check_link(path: str) -> None:
    """Refuse a link of another user in a shared folder, as Linux does unless configured otherwise."""
    link, folder = os.lstat(path), os.stat(os.path.dirname(path))
    is_shared = folder.st_mode & stat.S_IWOTH and folder.st_mode & stat.S_ISVTX
    if is_shared and link.st_uid not in (os.geteuid(), folder.st_uid):
        raise PermissionError(errno.EACCES, "it is a symbolic link of another user in a shared folder", path)


def write_file(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a whole file, text as UTF-8. Its folder must exist.

    Raises OSError if it cannot be written or is refused (see the module); the old content is kept, unless the file had
    to be overwritten on a full disk.
    """
    data = content.encode() if isinstance(content, str) else content
    target = resolve(path)
    target.check()
    _write(target, lambda file: file.write(data))


def place_file(
    source: str | os.PathLike[str], path: str | os.PathLike[str], share: bool, own_mode: bool = False
) -> None:
    """Put the content and the time of `source` at `path`, and for a new file also its mode. Raises as `write_file`.

    Parameters
    ----------
    share : bool
        Whether `path` may become a hard link to `source`, if that has no others. `source` then gets the mode and the
        owner of the replaced file, and must not be written again.
    own_mode : bool
        Whether to use the mode of `source` and not that of the replaced file, which may then be write-protected.
    """
    if share:
        try:
            link_file(source, path, own_mode)
            return
        except OSError:  # refused, as below; or another file system, or one without links
            pass
    target = resolve(path)
    target.check(protected_too=own_mode)
    found = os.stat(source)
    _write(target, lambda file: _copy(source, file), stat.S_IMODE(found.st_mode), own_mode)
    if not target.is_stream:
        with suppress(OSError):  # another user's file that was overwritten
            os.utime(target.real, ns=(found.st_atime_ns, found.st_mtime_ns))


def place_folder(source: str, path: str, share: bool) -> None:
    """Let the folder `source` appear at `path` with all that is in it, in place of what is there.

    Parameters
    ----------
    share : bool
        Whether `source` is not needed any more.

    Raises
    ------
    OSError
        If it cannot be copied or moved; what was there is as it was then.
    """
    place = resolve(path)
    partial, old = _partial_name(place), _partial_name(place)
    try:
        if not share:
            raise OSError(errno.EXDEV, "it is needed where it is", source)
        os.rename(source, partial)
    except OSError:  # another file system
        shutil.copytree(source, partial, symlinks=True)
    if place.status is not None:
        os.rename(place.real, old)
    os.rename(partial, place.real)
    shutil.rmtree(old, ignore_errors=True)


def link_file(source: str | os.PathLike[str], path: str | os.PathLike[str], own_mode: bool = False) -> None:
    """Make `path` a hard link to the file `source`, replacing a regular file if there is one.

    Raises OSError if that is not possible, for example because `source` is not a regular file or has other hard links;
    then `path` is unchanged.
    """
    found = os.lstat(source)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise OSError(errno.EMLINK, "it has other hard links, or is not a regular file", os.fspath(source))
    target = resolve(path)
    target.check(protected_too=own_mode)
    if target.is_stream:
        raise OSError(errno.EINVAL, "it is a device or a pipe", target.path)
    partial = _partial_name(target)
    os.link(source, partial, follow_symlinks=False)
    try:
        if target.status is not None:
            if (found.st_uid, found.st_gid) != (target.status.st_uid, target.status.st_gid):
                os.chown(partial, target.status.st_uid, target.status.st_gid)
            if not own_mode and stat.S_IMODE(found.st_mode) != stat.S_IMODE(target.status.st_mode):
                os.chmod(partial, stat.S_IMODE(target.status.st_mode))
        os.replace(partial, target.real)
    finally:
        with suppress(OSError):  # it exists only after an error
            os.unlink(partial)


def check_output(path: Path, option: str) -> None:
    """Check before any work that a file can be written, without creating it.

    Raises SettingError with the option, the path, the reason and the remedy.
    """
    try:
        target = resolve(path)
        target.check()
        if not target.is_stream:
            _check_room(target)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingError(f"{option} {path} cannot be written: {reason}. Name another file.") from error


def _check_room(target: ResolvedPath) -> None:
    folder = os.path.dirname(target.real)
    while not os.path.exists(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is not a folder", target.path)
    if not os.access(folder, os.W_OK | os.X_OK):
        if target.status is None:
            raise PermissionError(errno.EACCES, f"the folder {folder} is write-protected", target.path)
        _check_alone(target.status, target)


def check_folder(folder: Path) -> None:
    """Make a folder if it does not exist, and check that files can be created in it.

    Raises OSError if it cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trial = _partial_name(resolve(folder / "file"))
    os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    os.unlink(trial)


def _write(target: ResolvedPath, fill: Fill, new_mode: int | None = None, own_mode: bool = False) -> None:
    """Write a file with `fill`, which may be called twice.

    Parameters
    ----------
    new_mode : int, optional
        Mode of a new file, or of any file with `own_mode`; default as the umask allows.
    """
    if target.is_stream:
        with open(_opened(target), "wb") as file:
            fill(file)
        return
    mode = new_mode if target.status is None or own_mode else stat.S_IMODE(target.status.st_mode)
    partial = _partial_name(target)
    try:
        first_mode = 0o666 if mode is None else 0o600
        made = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, first_mode)
    except OSError as error:
        _overwrite(target, fill, mode, error)
        return
    try:
        with open(made, "wb") as file:
            fill(file)
        try:
            _copy_attributes(partial, target, mode)
            os.replace(partial, target.real)
        except OSError as error:
            _overwrite(target, fill, mode, error)
    finally:
        with suppress(OSError):  # it exists only after an error
            os.unlink(partial)


def _partial_name(target: ResolvedPath) -> str:
    """Return a new short name in the folder of a file."""
    return os.path.join(os.path.dirname(target.real), f".runmem-{os.urandom(8).hex()}.partial")


def _copy_attributes(partial: str, target: ResolvedPath, mode: int | None) -> None:
    """Set the owner, the mode and the access list of a new file."""
    if target.status is not None:
        made = os.stat(partial)
        if (made.st_uid, made.st_gid) != (target.status.st_uid, target.status.st_gid):
            os.chown(partial, target.status.st_uid, target.status.st_gid)
    if mode is not None:
        os.chmod(partial, mode)
    if target.status is not None and hasattr(os, "listxattr"):
        with suppress(OSError):  # a file system without attributes
            for name in os.listxattr(target.real):
                if name.startswith(_KEPT_ATTRIBUTES):
                    os.setxattr(partial, name, os.getxattr(target.real, name))


def _overwrite(target: ResolvedPath, fill: Fill, mode: int | None, why: OSError) -> None:
    """Overwrite a file that cannot be replaced by a new one; raise `why` if that does not help."""
    if target.status is None or why.errno not in _OVERWRITE_ERRORS:
        raise why
    _check_alone(target.status, target)
    with open(target.real, "r+b") as file:
        fill(file)
        file.truncate()
    if mode is not None and mode != stat.S_IMODE(target.status.st_mode):
        os.chmod(target.real, mode)


def _check_alone(status: os.stat_result, target: ResolvedPath) -> None:
    if status.st_nlink > 1:
        reason = "its folder accepts no new file, and it has other hard links, which would change too"
        raise PermissionError(errno.EPERM, reason, target.path)


def _opened(target: ResolvedPath) -> int:
    """Open a file that is written through, sharing the position of an open file of this process."""
    match = _OPEN_FILE.fullmatch(target.real)
    if match is not None and match[1] in (None, str(os.getpid())):
        return os.dup(int(match[2]))
    return os.open(target.path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC)


def _copy(source: str | os.PathLike[str], file: BinaryIO) -> None:
    with open(source, "rb") as content:
        shutil.copyfileobj(content, file, 1 << 20)
