"""The files of one execution of a call: the first one, or a later one because a result was lost with a worker.

A call that runs again finds what it found the first time, and changes nothing that others have seen meanwhile:

- What it reads in place may have been replaced. Then it was kept (`FileUse.kept`) before another version came, so it is
  there once the call has ended, if it was replaced at any time during it.
- What it makes is made apart, and takes the place of the version when it is whole, all at once. A version that lies in
  place is not touched again: the program may have changed it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from runmem.graph.call import FileUse, Slot
from runmem.graph.elements import as_type_of, root, with_elements

__all__ = ["FileAttempt"]


class FileAttempt:
    """Prepares the files of a call, whatever an earlier attempt has left.

    Parameters
    ----------
    uses : sequence of FileUse
    """

    def __init__(self, uses: Sequence[FileUse]) -> None:
        self._paths = [(use, _prepared(use)) for use in uses]

    def give_paths(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Put the current paths of the files into the arguments."""
        for use, path in self._paths:
            if path == use.path:
                continue
            for slot, named in use.places.items():
                _give(slot, _called(path, os.path.basename(named)), args, kwargs)

    def was_overtaken(self) -> bool:
        """Return True if a file that the task read in place was replaced while it ran: then the task must run again."""
        return any(not use.writes and path == use.path and _kept(use) is not None for use, path in self._paths)

    def ended(self) -> None:
        """Note that the task has ended: move files that it wrote elsewhere to the path of the version."""
        for use, path in self._paths:
            if use.is_made_in_place:
                if path == use.path:
                    _note_made(use)
            elif use.writes and path != use.path:
                _bring_up(path, use.path)

    def drop(self) -> None:
        """Delete what a cancelled call has written at the paths of the program, where nothing was before."""
        for use, path in self._paths:
            if use.is_made_in_place and path == use.path and os.path.lexists(path):
                _remove(path)


def _prepared(use: FileUse) -> str:
    """Prepare a file; return the path at which the task reads or writes it."""
    if not use.writes:
        return _kept(use) or use.path
    if use.is_made_in_place:
        is_made = _kept(use) is not None or os.path.lexists(_mark(use))
        target = os.path.join(_new_folder(use.kept), os.path.basename(use.path)) if is_made else use.path
        is_left = os.path.lexists(target) if use.is_folder else os.path.islink(target) or os.path.isfile(target)
        if not is_made and is_left:
            _remove(target)  # of an attempt that did not come to its end
    else:
        is_made = os.path.lexists(use.path)
        target = os.path.join(_new_folder(use.path), os.path.basename(use.path)) if is_made else use.path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if use.copy_from is not None:
        _copy(_kept(use) or use.copy_from, target)
        if (kept := _kept(use)) is not None:  # it may have come while that was copied
            _copy(kept, target)
    elif use.is_folder and not use.is_made_in_place:
        if os.path.lexists(target):
            _remove(target)
        os.mkdir(target)  # the program has made the folder that the task fills
    return target


def _kept(use: FileUse) -> str | None:
    """Return the new path of the version that was in place, if it was replaced; else None."""
    return use.kept if use.kept is not None and os.path.lexists(use.kept) else None


def _mark(use: FileUse) -> str:
    """Return the path of the file that marks a version made in place."""
    return os.path.join(os.path.dirname(str(use.kept)) + ".made", "whole")


def _note_made(use: FileUse) -> None:
    mark = _mark(use)
    os.makedirs(os.path.dirname(mark), exist_ok=True)
    os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))


def _new_folder(path: str | None) -> str:
    """Return a new folder beside a version."""
    return os.path.join(os.path.dirname(str(path)), f"again-{os.urandom(8).hex()}")


def _copy(source: str, target: str) -> None:
    if os.path.lexists(target):
        _remove(target)
    if os.path.isdir(source):
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copyfile(source, target)
        shutil.copymode(source, target)


def _called(path: str, name: str) -> str:
    """Return a path to a file under the name that the program uses, by a symbolic link if need be."""
    folder, own = os.path.split(path)
    if name == own:
        return path
    shown = os.path.join(folder, name)
    try:
        os.symlink(own, shown)
    except FileExistsError:
        pass
    except OSError:
        return path
    return shown


def _give(slot: Slot, path: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Put the path of a file into its slot of the arguments."""
    argument = root(slot)
    arguments: Any = kwargs if isinstance(argument, str) else args
    if isinstance(slot, tuple):
        arguments[argument] = with_elements(arguments[argument], {slot[1:]: path})
    else:
        arguments[argument] = as_type_of(arguments[argument], path)


def _bring_up(made: str, version: str) -> None:
    """Move everything in the folder of a new attempt over the files of an earlier one."""
    apart, name = os.path.split(made)
    folder = os.path.dirname(version)
    if not os.path.lexists(made) and os.path.lexists(version):
        _remove(version)
    for entry in os.listdir(apart):
        source, target = os.path.join(apart, entry), os.path.join(folder, entry)
        if os.path.isdir(target) and not os.path.islink(target):
            _remove(target)
        os.replace(source, target)
    with suppress(OSError):
        os.symlink(os.path.join(os.pardir, name), made)  # a result may name it


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
