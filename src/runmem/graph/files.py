"""Versions of files: a writer never changes the file of an older version, which a task may still be reading."""

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
    """The state of one file: where its current version is stored, which call writes it, and which calls use its path.

    "In place" means at the path that the program uses.

    Attributes
    ----------
    version : str or None
        Path of the current version; None if it is in place.
    own_mode : bool
        Whether the version keeps its own permission mode. If False, it takes the mode of the file in place.
    kept : str or None
        Path where the file in place is saved before a new version replaces it; None if no task has used it yet.
    before : _Before or None
        The previous version, as long as the writer of this one may be cancelled.
    is_folder : bool
        Whether it is a directory.
    needed_in_place, needed : WeakSet of Origin
        `needed_in_place`: calls that would need the file in place if they ran again. `needed`: the same for the version
        stored elsewhere.
    """

    version: str | None = None
    writer: Execution | None = None
    # Weak references: having used a file does not keep alive a finished execution whose results are not needed.
    users_in_place: weakref.WeakSet[Execution] = field(default_factory=weakref.WeakSet)
    own_mode: bool = True
    kept: str | None = None
    needed_in_place: weakref.WeakSet[Origin] = field(default_factory=weakref.WeakSet)
    needed: weakref.WeakSet[Origin] = field(default_factory=weakref.WeakSet)
    before: _Before | None = None
    is_folder: bool = False

    def drop_cancelled(self) -> None:
        """Return to the previous version if the writer of this one was cancelled, or depends on a failed call."""
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
        """Save this version, to return to it if the next writer is cancelled."""
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
    """The current versions of the files that tasks use, keyed by their resolved path (symbolic links followed).

    If nothing exists at a path, the first version is written directly to it. Every later one is written to a separate
    folder, under its own base name, and moved in place when the program asks for the file (or ends). A symbolic link is
    kept: its target gets the version. The file keeps its owner, group and mode (see `runmem.store.output`).

    A call runs again if its results are lost with a worker. So before a file is replaced, a version that such a call
    may need is saved elsewhere. The new file is an independent copy, not a hard link to the saved one.

    Devices, pipes and files that a process has open (`/dev/fd`) have no versions: tasks write directly to them, in no
    guaranteed order.

    Parameters
    ----------
    folder : callable
        Returns the folder for versions that are not in place; called when the first one is needed. The workers must
        see it under the same path.

    Limitations: a program that changes a file itself opens it with `open_file`. Other hard links of a file keep the old
    version.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._files: dict[str, _File] = {}
        self._count = 0

    def saved(self, names: Iterable[str], execution: Execution) -> Callable[[], None]:
        """Return a function that restores the current state of the files, for use if `execution` cannot be sent."""
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
            The path of the new version and the version that the writer starts from; None for a device or pipe.
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
        """Note a call that uses the file in place; return the path where that is saved before it is replaced."""
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

        A version is stored under the base name that its writer used. If the program refers to the file through a link
        of another name, return a link of that name.
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
        """Stop tracking a file that the program deletes."""
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
            Taken to read and change versions, and released while waiting for tasks.
        for_writing : bool
            Whether the program itself will write the file: then the readers of the current version must have ended too.

        Raises
        ------
        FilePlacementError
            If the version cannot be moved in place; the message gives its path.
        Exception
            The exception of the writer; the file is left unchanged. Errors of readers are ignored here.
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


def _keep(file: _File, name: str, leave_copy: bool) -> None:
    """Save the file in place if a call may need it when it runs again.

    `leave_copy`: whether to leave in place an independent copy that the program may modify.
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
        if leave_copy and os.path.samefile(name, file.kept):
            place_file(name, name, share=False)
    except OSError as error:
        raise FilePlacementError(
            f"{name} cannot be replaced: its current version could not be saved in {os.path.dirname(file.kept)} "
            f"({error.strerror or error}). Tasks may have to read it again if a worker is lost. Free some space in "
            f"{os.path.dirname(file.kept)}."
        ) from error


def _link_or_copy(name: str, kept: str) -> None:
    try:
        os.link(name, kept)
    except OSError:  # another file system, one without links, or another user's file
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
            raise FileNotFoundError(errno.ENOENT, f"the task wrote no file for {name}", version) from error
        raise FilePlacementError(
            f"{name} cannot be replaced by its new version: {error.strerror or error}. Copy it from {version}."
        ) from error
