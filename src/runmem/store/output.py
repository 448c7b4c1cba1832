"""Writes files that people named, or may have put something else in the place of. No other module does so.

What happens depends on what the path leads to. Symbolic links are followed, and stay.

- Nothing: the new file appears whole, with the mode that the umask leaves.
- A regular file: a reader sees the old content or the new one, never half of it. Owner, group, mode and access list
  stay. It is a new file under the old name, so that other hard links to the old one keep the old content: they may be
  another run's. Where the folder takes no new file, or the owner could not stay, the file is written over instead; one
  with other hard links is not.
- A character device, a named pipe, or what a process has open (``/dev/stdout``): it is written through.
- A folder, a socket, a block device, or a file that is write-protected: it is refused, with an `OSError`.

Limitations: a file that is written over is half written for a moment, and if that fails. Attributes other than the
access list and those of users do not stay.
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

__all__ = ["Place", "look", "write_file", "place_file", "place_folder", "link_file", "check_output", "check_folder"]

_OPEN_ALREADY = re.compile(r"(?:/proc/(\d+)(?:/task/\d+)?/fd|/dev/fd)/(\d+)")
_MOST_LINKS = 40  # as Linux has it
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a block device"}
_WRITE_OVER = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY}  # EBUSY: the file is a mount point
_KEPT_ATTRIBUTES = ("user.", "system.posix_acl_access")

Fill = Callable[[BinaryIO], object]


class Place(NamedTuple):
    """What a path leads to.

    Attributes
    ----------
    path : str
        The path as it was written, absolute.
    real : str
        The one name of the file: without symbolic links.
    status : os.stat_result or None
        None: there is nothing.
    """

    path: str
    real: str
    status: os.stat_result | None

    @property
    def is_open_already(self) -> bool:
        """Whether it is what a process has open, such as ``/dev/stdout``."""
        return _OPEN_ALREADY.fullmatch(self.real) is not None

    @property
    def is_pipe(self) -> bool:
        """Whether it is a named pipe."""
        return self.status is not None and stat.S_ISFIFO(self.status.st_mode)

    @property
    def is_stream(self) -> bool:
        """Whether it is written through and has no content of its own: a device, a pipe, what a process has open."""
        return self.is_pipe or self.is_open_already or (self.status is not None and stat.S_ISCHR(self.status.st_mode))

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)

    @property
    def obstacle(self) -> str | None:
        """What it is, such as ``a folder``, if that can be neither replaced nor written through."""
        if self.status is None or self.is_open_already:
            return None
        return _KINDS.get(stat.S_IFMT(self.status.st_mode))

    def check(self, protected_too: bool = False) -> None:
        """Raise `OSError` for what is refused; `protected_too`: a write-protected file may be replaced."""
        if self.obstacle is not None:
            number = errno.EISDIR if self.obstacle == _KINDS[stat.S_IFDIR] else errno.EINVAL
            raise OSError(number, f"it is {self.obstacle}", self.path)
        if protected_too or self.status is None or self.is_open_already:
            return
        if not os.access(self.real, os.W_OK):
            raise PermissionError(errno.EACCES, "it is write-protected", self.path)


def look(path: str | os.PathLike[str]) -> Place:
    """Return what a path leads to.

    Raises
    ------
    OSError
        If that cannot be known: a circle of links, a folder that may not be entered; or if it is a link that another
        user has put into a folder for everybody, such as ``/tmp``.
    ValueError
        For a path that no file can have.
    """
    name = os.fspath(path)
    try:
        status = os.stat(name)
    except (FileNotFoundError, NotADirectoryError):
        status = None
    return Place(_absolute(name), _followed(name), status)


def _absolute(path: str) -> str:
    shown = os.path.abspath(path)
    if os.pardir in path and os.path.realpath(shown) != os.path.realpath(path):
        return os.path.join(os.getcwd(), path)  # what follows a link, .. is not the folder that the link lies in
    return shown


def _followed(path: str) -> str:
    """Follow the links, but not into what a process has open: that has a name only if it is a file."""
    for _ in range(_MOST_LINKS):
        folder, name = os.path.split(path)
        if name in ("", os.curdir, os.pardir):
            break
        path = os.path.join(os.path.realpath(folder), name)
        if _OPEN_ALREADY.fullmatch(path):
            return path
        try:
            target = os.readlink(path)
        except OSError:  # no link
            return path
        _check_link(path)
        path = os.path.join(os.path.dirname(path), target)
    return os.path.realpath(path)


def _check_link(path: str) -> None:
    """Refuse a link that somebody else may have put there; Linux has the same rule, if it is not switched off."""
    link, folder = os.lstat(path), os.stat(os.path.dirname(path))
    for_all = folder.st_mode & stat.S_IWOTH and folder.st_mode & stat.S_ISVTX
    if for_all and link.st_uid not in (os.geteuid(), folder.st_uid):
        raise PermissionError(
            errno.EACCES, "it is a symbolic link that another user has put into a folder for everybody", path
        )


def write_file(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a whole file, text as UTF-8. Its folder must be there.

    Raises
    ------
    OSError
        If it cannot be written, or is refused (see the module); what was there is as it was, unless the file had to be
        written over and there was no room.
    """
    data = content.encode() if isinstance(content, str) else content
    place = look(path)
    place.check()
    _write(place, lambda file: file.write(data))


def place_file(
    source: str | os.PathLike[str], path: str | os.PathLike[str], share: bool, own_mode: bool = False
) -> None:
    """Let the content of `source` appear at `path`, with its time; a file that was not there has its mode too.

    Parameters
    ----------
    share : bool
        Whether both may be one file on the disk (a hard link), if nothing else is that file. `source` then takes on the
        mode and the owner of the file that was there, and must not be written any more.
    own_mode : bool
        Whether the mode of `source` is the one wanted, and not that of the file that was there, which then may be
        write-protected too.

    Raises
    ------
    OSError
        As `write_file`.
    """
    if share:
        try:
            link_file(source, path, own_mode)
            return
        except OSError:  # refused, which comes again; or another file system, or one without links
            pass
    place = look(path)
    place.check(protected_too=own_mode)
    found = os.stat(source)
    _write(place, lambda file: _copy(source, file), stat.S_IMODE(found.st_mode), own_mode)
    if not place.is_stream:
        with suppress(OSError):  # of a file of somebody else, that was written over
            os.utime(place.real, ns=(found.st_atime_ns, found.st_mtime_ns))


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
    place = look(path)
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
    """Let the file `source` appear at `path` too, as a hard link, in place of a regular file or of nothing.

    Raises
    ------
    OSError
        If that cannot be, as where `source` is no regular file or has hard links already; `path` is as it was then.
    """
    found = os.lstat(source)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise OSError(errno.EMLINK, "it is shared already, or no regular file", os.fspath(source))
    place = look(path)
    place.check(protected_too=own_mode)
    if place.is_stream:
        raise OSError(errno.EINVAL, "it is a device or a pipe", place.path)
    partial = _partial_name(place)
    os.link(source, partial, follow_symlinks=False)
    try:
        if place.status is not None:
            if (found.st_uid, found.st_gid) != (place.status.st_uid, place.status.st_gid):
                os.chown(partial, place.status.st_uid, place.status.st_gid)
            if not own_mode and stat.S_IMODE(found.st_mode) != stat.S_IMODE(place.status.st_mode):
                os.chmod(partial, stat.S_IMODE(place.status.st_mode))
        os.replace(partial, place.real)
    finally:
        with suppress(OSError):  # it has gone, but on an error
            os.unlink(partial)


def check_output(path: Path, option: str) -> None:
    """Raise before any work is done if a file could not be written. Nothing is made.

    Raises
    ------
    SettingError
        Names the option, the path, the reason and the remedy.
    """
    try:
        place = look(path)
        place.check()
        if not place.is_stream:
            _check_room(place)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingError(f"{option} {path} cannot be written: {reason}. Name another file.") from error


def _check_room(place: Place) -> None:
    folder = os.path.dirname(place.real)
    while not os.path.exists(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is no folder", place.path)
    if not os.access(folder, os.W_OK | os.X_OK):
        if place.status is None:
            raise PermissionError(errno.EACCES, f"the folder {folder} is write-protected", place.path)
        _check_alone(place.status, place)


def check_folder(folder: Path) -> None:
    """Make a folder if need be, and see that files can be made there.

    Raises
    ------
    OSError
        If it cannot be made, or nothing can be written there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trial = _partial_name(look(folder / "file"))
    os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    os.unlink(trial)


# --- how it is written ------------------------------------------------------------------------------------------------


def _write(place: Place, fill: Fill, new_mode: int | None = None, own_mode: bool = False) -> None:
    """Write what `fill` writes to an open file, which may be asked twice.

    Parameters
    ----------
    new_mode : int, optional
        Mode of the file if it is new, or if it is to have `own_mode`; default: what the umask leaves.
    """
    if place.is_stream:
        with open(_opened(place), "wb") as file:
            fill(file)
        return
    mode = new_mode if place.status is None or own_mode else stat.S_IMODE(place.status.st_mode)
    partial = _partial_name(place)
    try:
        first_mode = 0o666 if mode is None else 0o600
        made = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, first_mode)
    except OSError as error:
        _write_over(place, fill, mode, error)
        return
    try:
        with open(made, "wb") as file:
            fill(file)
        try:
            _take_on(partial, place, mode)
            os.replace(partial, place.real)
        except OSError as error:
            _write_over(place, fill, mode, error)
    finally:
        with suppress(OSError):  # it has gone, but on an error
            os.unlink(partial)


def _partial_name(place: Place) -> str:
    """Return a new name in the folder of a file, short whatever the file's own."""
    return os.path.join(os.path.dirname(place.real), f".runmem-{os.urandom(8).hex()}.partial")


def _take_on(partial: str, place: Place, mode: int | None) -> None:
    """Give a new file the owner, the mode and the access list that it is to have."""
    if place.status is not None:
        made = os.stat(partial)
        if (made.st_uid, made.st_gid) != (place.status.st_uid, place.status.st_gid):
            os.chown(partial, place.status.st_uid, place.status.st_gid)
    if mode is not None:
        os.chmod(partial, mode)
    if place.status is not None and hasattr(os, "listxattr"):
        with suppress(OSError):  # a file system without attributes
            for name in os.listxattr(place.real):
                if name.startswith(_KEPT_ATTRIBUTES):
                    os.setxattr(partial, name, os.getxattr(place.real, name))


def _write_over(place: Place, fill: Fill, mode: int | None, why: OSError) -> None:
    """Write over the content of a file of which no new one can take the place; raise `why` if that is no remedy."""
    if place.status is None or why.errno not in _WRITE_OVER:
        raise why
    _check_alone(place.status, place)
    with open(place.real, "r+b") as file:
        fill(file)
        file.truncate()
    if mode is not None and mode != stat.S_IMODE(place.status.st_mode):
        os.chmod(place.real, mode)


def _check_alone(status: os.stat_result, place: Place) -> None:
    if status.st_nlink > 1:
        reason = "its folder takes no new file, and it has other hard links, which would change with it"
        raise PermissionError(errno.EPERM, reason, place.path)


def _opened(place: Place) -> int:
    """Open what is written through; of what this process has open, share the position too."""
    match = _OPEN_ALREADY.fullmatch(place.real)
    if match is not None and match[1] in (None, str(os.getpid())):
        return os.dup(int(match[2]))
    return os.open(place.path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC)


def _copy(source: str | os.PathLike[str], file: BinaryIO) -> None:
    with open(source, "rb") as content:
        shutil.copyfileobj(content, file, 1 << 20)
