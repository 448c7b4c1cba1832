"""Versions of files. A writer never touches the file that a reader of an older version may still be reading."""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from runmem.errors import FilePlacementError
from runmem.graph.call import Execution, FileUse, Origin, Submitter
from runmem.store.output import ResolvedPath, place_file, place_folder, resolve

__all__ = ["FileVersions"]

_NO_LOCK: AbstractContextManager[Any] = nullcontext()


@dataclass(slots=True)
class _File:
    """The current version of one file: where it lies, who writes it, and who reads or writes the one in place.

    Attributes
    ----------
    version : str or None
        Where the version lies; None: in place.
    own_mode : bool
        Whether its mode is what the program and its tasks made of the file's; else it is that of the file in place.
    kept : str or None
        Where the version in place goes to when another one comes there; None: no task used it so far.
    before : _Before or None
        The version before, as long as the writer of this one may be cancelled.
    is_folder : bool
        Whether it is a directory.
    needed_in_place, needed : WeakSet of Origin
        The calls that may need the version in place, and the one that is not in place, when they run again.
    """

    version: str | None = None
    writer: Execution | None = None
    # Weak: an execution that has ended and whose results nobody wants is not kept for having used a file.
    users_in_place: weakref.WeakSet[Execution] = field(default_factory=weakref.WeakSet)
    own_mode: bool = True
    kept: str | None = None
    needed_in_place: weakref.WeakSet[Origin] = field(default_factory=weakref.WeakSet)
    needed: weakref.WeakSet[Origin] = field(default_factory=weakref.WeakSet)
    before: _Before | None = None
    is_folder: bool = False

    def drop_cancelled(self) -> None:
        """Go back to the version before if the writer of this one was cancelled, or one on which it depends failed."""
        while self.writer is not None and (state := self.writer.state) is not None and state.done:
            if not state.never_ran:
                if state.keeps_files:
                    self.writer = None
                return
            if self.before is None:
                self.version = self.writer = None
            else:
                self.version, self.writer, self.own_mode, self.needed, self.before = self.before

    def remember(self) -> None:
        """Keep what is needed to come back to this version, if its own writer has not ended."""
        self.before = _Before(self.version, self.writer, self.own_mode, self.needed, self.before)
        state = self.writer.state if self.writer is not None else None
        if state is None or state.done:
            self.before = self.before._replace(before=None)


class _Before(NamedTuple):
    version: str | None
    writer: Execution | None
    own_mode: bool
    needed: weakref.WeakSet[Origin]
    before: _Before | None


class FileVersions:
    """The current versions of the files that tasks use, by their one name without symbolic links.

    The first version that a task writes to a path where nothing is lies in place. Every later one lies in a folder of
    its own, under its own base name, and appears in place when the program asks for the file (or ends). A symbolic link
    stays one: the version appears in place of what it points to. Owner, group and mode of the file stay (see
    `runmem.store.output`).

    A call runs again if its results are lost with a worker. So before something else comes into place, a version that
    such a call may need is kept elsewhere, and what lies in place afterwards shares no bytes on the disk with it.

    Devices, pipes and what a process has open have no versions: tasks write through to them, in any order.

    Parameters
    ----------
    folder : callable
        Gives the folder for versions that are not in place; called when the first one is needed. It must be visible
        under the same path on the workers.

    Limitations: a program that changes a file itself opens it with `open_file`. Other hard links of a file keep the old
    version.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._files: dict[str, _File] = {}
        self._count = 0

    def saved(self, names: Iterable[str], execution: Execution) -> Callable[[], None]:
        """Return a function that restores the present state of these files if `execution` cannot be sent."""
        names = list(names)
        before = {
            name: (file.version, file.writer, file.own_mode, file.needed, file.before)
            for name in names if (file := self._files.get(name)) is not None
        }  # fmt: skip

        def restore() -> None:
            for name in names:
                file = self._files.pop(name, None)
                if file is not None and name in before:
                    file.users_in_place.discard(execution)
                    file.version, file.writer, file.own_mode, file.needed, file.before = before[name]
                    self._files[name] = file

        return restore

    def read(
        self, place: ResolvedPath, reader: Execution, is_folder: bool = False
    ) -> tuple[FileUse | None, Execution | None]:
        """Note a reader; return its use of the file, and the execution that writes the version, if any."""
        if place.is_stream or place.obstacle is not None and not is_folder:
            return None, None
        file = self._files.setdefault(place.real, _File())
        file.drop_cancelled()
        file.is_folder = is_folder
        if file.version is None:
            kept = self._used_in_place(file, place, reader)
            return FileUse(place.path, kept=kept, is_folder=is_folder), file.writer
        if reader.origin is not None:
            file.needed.add(reader.origin)
        return FileUse(file.version, is_folder=is_folder), file.writer

    def write(
        self, place: ResolvedPath, writer: Execution, reads: bool, is_folder: bool = False
    ) -> tuple[FileUse | None, Execution | None]:
        """Make a new version.

        Parameters
        ----------
        reads : bool
            Whether the writer starts from the current version.

        Returns
        -------
        FileUse or None
            Where the writer makes its version and what it starts from; None for what has no versions.
        Execution or None
            The writer of the version that it starts from.
        """
        file = self._files.setdefault(place.real, _File())
        if place.is_stream:
            file.users_in_place.add(writer)
            return None, None
        file.drop_cancelled()
        before, last, kept = file.version or place.path, file.writer, None
        file.remember()
        file.is_folder = is_folder
        file.own_mode = file.own_mode and reads
        if last is None and not file.users_in_place and place.status is None:
            kept = self._used_in_place(file, place, writer)
            file.writer, file.own_mode = writer, True
            path = place.real if os.path.islink(place.path) else place.path
            return FileUse(path, writes=True, kept=kept, is_folder=is_folder), None
        if reads and file.version is None:
            kept = self._used_in_place(file, place, writer)  # it copies from the file in place
        file.version, file.needed = self._new_path(place), weakref.WeakSet()
        file.writer = writer
        use = FileUse(file.version, True, before if reads else None, kept, is_folder=is_folder)
        return use, last if reads else None

    def _used_in_place(self, file: _File, place: ResolvedPath, user: Execution) -> str:
        """Note a call that uses the version in place; return the path to which that is moved when it is replaced."""
        file.users_in_place.add(user)
        if user.origin is not None:
            file.needed_in_place.add(user.origin)
        if file.kept is None:
            file.kept = self._new_path(place)
        return file.kept

    def _new_path(self, place: ResolvedPath) -> str:
        self._count += 1
        return str(self._folder() / f"v{self._count}" / os.path.basename(place.path))

    def path_for(self, place: ResolvedPath) -> str:
        """Return the path of the current version of a file for a task, with the base name that the program uses.

        A version has the name by which its writer called it. A link to it has another one.
        """
        file = self._files.get(place.real)
        if file is None or file.version is None:
            return place.path
        shown = os.path.join(os.path.dirname(file.version), os.path.basename(place.path))
        if shown != file.version:
            os.makedirs(os.path.dirname(shown), exist_ok=True)
            with suppress(FileExistsError):
                os.symlink(os.path.basename(file.version), shown)
        return shown

    def known(self) -> list[str]:
        """Return the names of all files that tasks used."""
        return list(self._files)

    def forget(self, path: str) -> None:
        """Forget a file, which the program deletes."""
        self._files.pop(resolve(path).real, None)

    def bring_into_place(
        self,
        path: str,
        submitter: Submitter,
        for_writing: bool = False,
        lock: AbstractContextManager[Any] = _NO_LOCK,
    ) -> None:
        """Wait for the current version of a file and move it to its path, once no task uses the old one.

        Parameters
        ----------
        lock : context manager
            Held while versions are looked at and changed, and not while tasks are waited for.
        for_writing : bool
            Whether the program itself will write the file: then the readers of the current version must have ended too.

        Raises
        ------
        FilePlacementError
            If the version cannot be brought into place; it says where it lies.
        Exception
            What the writer raised; the file stays as it was. An error of a reader is no matter here.
        """
        place = resolve(path)
        name = place.real
        while True:
            with lock:
                file = self._files.get(name)
                if file is None:
                    return
                file.drop_cancelled()
                writer, users = file.writer, list(file.users_in_place)
            if place.is_stream:
                submitter.wait(users)
                return
            if writer is not None:
                submitter.wait([writer])
            if file.version is not None or for_writing:
                submitter.wait(users, raises=False)
            with lock:
                file.drop_cancelled()
                if self._files.get(name) is not file or file.writer is not writer and file.writer is not None:
                    continue  # another thread has called a task that writes it, or the writer was cancelled
                if file.version is None and not for_writing:
                    file.writer = None
                    return
                _keep(file, name, for_writing)
                file.users_in_place.clear()
                if file.version is not None:
                    _put_in_place(file.version, name, not file.needed, file.own_mode)
                self._files[name] = _File(users_in_place=file.users_in_place)
                return


def _keep(file: _File, name: str, part: bool) -> None:
    """Keep the version in place if a call may need it when it runs again.

    `part`: leave a copy in place, which the program may change.
    """
    is_there = os.path.isdir(name) if file.is_folder else os.path.isfile(name)
    if file.kept is None or not file.needed_in_place or not is_there:
        return
    try:
        if file.is_folder:
            if not os.path.lexists(file.kept):
                os.makedirs(os.path.dirname(file.kept), exist_ok=True)
                place_folder(name, file.kept, share=False)
            return
        if not os.path.lexists(file.kept):
            os.makedirs(os.path.dirname(file.kept), exist_ok=True)
            _link_or_copy(name, file.kept)
        if part and os.path.samefile(name, file.kept):
            place_file(name, name, share=False)
    except OSError as error:
        raise FilePlacementError(
            f"{name} cannot be changed: the version that is there cannot be kept in {os.path.dirname(file.kept)} "
            f"({error.strerror or error}), and tasks whose results are wanted may have to read it again if a worker is "
            "lost. Make room there."
        ) from error


def _link_or_copy(name: str, kept: str) -> None:
    try:
        os.link(name, kept)
    except OSError:  # another file system, one without links, or a file of somebody else
        place_file(name, kept, share=False)


def _put_in_place(version: str, name: str, shared: bool, own_mode: bool) -> None:
    """Move or copy a version to the path of its file, atomically; `shared`: a hard link is allowed."""
    try:
        os.makedirs(os.path.dirname(name), exist_ok=True)
        if os.path.isdir(version):
            place_folder(version, name, shared)
        else:
            place_file(version, name, shared, own_mode)
    except OSError as error:
        if not os.path.exists(version):
            raise FileNotFoundError(errno.ENOENT, f"the task left no file for {name}", version) from error
        raise FilePlacementError(
            f"{name} cannot be given its new version: {error.strerror or error}. Copy it from {version}."
        ) from error
