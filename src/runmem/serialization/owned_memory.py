"""Finds out whether large blocks of a stored value are its own alone, so that a task may change them in place.

A block is the value's own if the object that owns the memory, a `bytearray` or an array, has no reference left once the
value has released its views. Every reader of the memory holds such a reference: an array lent to another task, a result
that contains one, a transfer by Dask. Where the owner is something else, such as a mapped file, that is not known.
"""

from __future__ import annotations

import pickle
import sys
from itertools import pairwise
from typing import Any, NamedTuple

from runmem.shadowed import library_module

__all__ = ["Block", "claim", "only_reference"]


class Block(NamedTuple):
    """A block of memory that was claimed.

    Attributes
    ----------
    view
        An array of bytes over its memory if nothing else refers to that; else a view as before.
    is_own : bool
    """

    view: Any
    is_own: bool


class _Place(NamedTuple):
    owner: int  # index among the owners
    begin: int
    end: int


def _references(objects: list[Any], index: int) -> int:
    return sys.getrefcount(objects[index])


_ONE = _references([object()], 0)


def only_reference(objects: list[Any], index: int) -> bool:
    """Return True if nothing but the list refers to one of its items."""
    return _references(objects, index) <= _ONE


def claim(views: list[memoryview]) -> list[Block]:
    """Return the blocks to which these views refer. The views are released; only the list may refer to them."""
    numpy = library_module("numpy")
    owners: list[Any] = []
    places: list[_Place | None] = []
    for index in range(len(views)):
        place = _place(views[index], owners, numpy) if only_reference(views, index) else None
        if place is not None:
            try:
                views[index].release()
            except BufferError:  # something reads it now
                place = None
        places.append(place)
    spans = sorted(place for place in places if place is not None)
    shared = {a.owner for a, b in pairwise(spans) if a.owner == b.owner and b.begin < a.end}
    shared |= {index for index in range(len(owners)) if not only_reference(owners, index)}
    found = []
    for index, place in enumerate(places):
        if place is None:
            found.append(Block(views[index], False))
            continue
        view = pickle.PickleBuffer(owners[place.owner]).raw()[place.begin : place.end]
        is_own = place.owner not in shared
        found.append(Block(numpy.frombuffer(view, numpy.uint8) if is_own else view, is_own))
    return found


def _place(view: memoryview, owners: list[Any], numpy: Any) -> _Place | None:
    """Return where a view is in the memory of its owner, which is added to `owners`; None: it may not be written to."""
    if numpy is None or view.readonly or not view.nbytes:
        return None
    owner: Any = view.obj
    while True:
        if type(owner) is numpy.ndarray and owner.base is not None:
            owner = owner.base
        elif type(owner) is memoryview:
            owner = owner.obj
        else:
            break
    if type(owner) is not bytearray and not (type(owner) is numpy.ndarray and owner.flags.owndata):
        return None
    try:
        memory = pickle.PickleBuffer(owner).raw()
    except (BufferError, ValueError):  # not contiguous, or of a type that no buffer can have
        return None
    if memory.readonly:
        return None
    begin = _address(view, numpy) - _address(memory, numpy)
    if begin < 0 or begin + view.nbytes > memory.nbytes:
        return None
    index = next((index for index, known in enumerate(owners) if known is owner), len(owners))
    if index == len(owners):
        owners.append(owner)
    return _Place(index, begin, begin + view.nbytes)


def _address(memory: memoryview, numpy: Any) -> int:
    address: int = numpy.frombuffer(memory, numpy.uint8).__array_interface__["data"][0]
    return address
