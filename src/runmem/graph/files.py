"""Versions of files. A writer never touches the file that a reader of an older version may still be reading."""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runmem.graph.call import Execution, FileUse, Submitter

__all__ = ["FileVersions"]

_NO_LOCK: AbstractContextManager[Any] = nullcontext()


@dataclass(slots=True)
class _File:
    """The current version of one file: where it lies, who writes it, and who reads or writes the one in place."""

    path: str
    writer: Execution | None = None
    # Weak: an execution that has ended and whose results nobody wants is not kept for having used a file.
    users_in_place: weakref.WeakSet[Execution] = field(default_factory=weakref.WeakSet)


class FileVersions:
    """The current versions of the files that tasks use, by absolute path.

    The first version that a task writes to a path where nothing is lies in place. Every later one lies in a folder of
    its own, under its own base name, and appears in place when the program asks for the file (or ends); it stays in its
    folder too, for tasks that still have to read it.

    Parameters
    ----------
    folder : callable
        Gives the folder for versions that are not in place; called when the first one is needed. It must be visible
        under the same path on the workers.

    Limitations: a task that read or wrote the file in place, and that Dask runs again after a later version came there,
    finds the later one. A program that changes a file itself opens it with `open_file`.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._files: dict[str, _File] = {}
        self._count = 0

    def saved(self, paths: Iterable[str], execution: Execution) -> Callable[[], None]:
        """Return what brings the present state of these files back, if `execution` cannot be sent after all."""
        names = [os.path.abspath(path) for path in paths]
        before = {name: (file.path, file.writer) for name in names if (file := self._files.get(name)) is not None}

        def restore() -> None:
            for name in names:
                file = self._files.pop(name, None)
                if file is not None and name in before:
                    file.users_in_place.discard(execution)
                    file.path, file.writer = before[name]
                    self._files[name] = file

        return restore

    def read(self, path: str, reader: Execution) -> tuple[str, Execution | None]:
        """Note a reader; return the path of its version and the execution that writes it, if one does."""
        name = os.path.abspath(path)
        file = self._files.setdefault(name, _File(name))
        if file.path == name:
            file.users_in_place.add(reader)
        return file.path, file.writer

    def write(self, path: str, writer: Execution, reads: bool) -> tuple[FileUse, Execution | None]:
        """Make a new version.

        Parameters
        ----------
        reads : bool
            Whether the writer starts from the current version.

        Returns
        -------
        FileUse
            Where the writer finds its version and what it starts from.
        Execution or None
            The writer of the version that it starts from.
        """
        name = os.path.abspath(path)
        file = self._files.setdefault(name, _File(name))
        before = file.path, file.writer
        if file.writer is None and not file.users_in_place and not os.path.exists(name):
            target = name
            file.users_in_place.add(writer)
        else:
            self._count += 1
            target = str(self._folder() / f"v{self._count}" / os.path.basename(name))
            if reads and before[0] == name:
                file.users_in_place.add(writer)  # it copies from the file in place
        file.path, file.writer = target, writer
        return FileUse(target, before[0] if reads and target != name else None), before[1] if reads else None

    def known(self) -> list[str]:
        """Return the absolute paths of all files that tasks used."""
        return list(self._files)

    def settle(
        self,
        path: str,
        submitter: Submitter,
        for_writing: bool = False,
        lock: AbstractContextManager[Any] = _NO_LOCK,
    ) -> None:
        """Wait for the current version of a file and bring it into place, once nobody uses the old one.

        Parameters
        ----------
        lock : context manager
            Held while versions are looked at and changed, and not while tasks are waited for.
        for_writing : bool
            Whether the program itself will write the file: then the readers of the current version must have ended too.

        Raises
        ------
        Exception
            What the writer raised; the file stays as it was. An error of a reader is no matter here.
        """
        name = os.path.abspath(path)
        while True:
            with lock:
                file = self._files.get(name)
                if file is None:
                    return
                writer, users = file.writer, list(file.users_in_place)
            if writer is not None:
                submitter.wait([writer])
            if file.path != name or for_writing:
                submitter.wait(users, raises=False)
            with lock:
                if self._files.get(name) is not file or file.writer is not writer:
                    continue  # another thread has called a task that writes it, meanwhile
                if file.path != name or for_writing:
                    file.users_in_place.clear()
                if file.path != name:
                    _put_in_place(file.path, name, shared=not for_writing)
                elif for_writing:
                    _make_own(name)
                self._files[name] = _File(name, None, file.users_in_place)
                return


def _put_in_place(version: str, name: str, shared: bool) -> None:
    """Let a version appear under the file's own name, all at once; `shared`: the bytes on the disk may be the same."""
    os.makedirs(os.path.dirname(name), exist_ok=True)
    partial = f"{name}.runmem-{os.getpid()}"
    try:
        if not shared:
            raise OSError("the program will write to it")
        os.link(version, partial)
    except OSError:  # also another file system, or one without links
        shutil.copy2(version, partial)
    os.replace(partial, name)


def _make_own(name: str) -> None:
    """Part the file in place from a version that tasks may still read, if they share their bytes on the disk."""
    if os.path.exists(name) and os.stat(name).st_nlink > 1:
        _put_in_place(name, name, shared=False)
