"""Pickles arrays over memory that a task may only read, so that others can write to them.

A task has large arrays that it does not write over the memory in which the worker keeps them, for reading only. Where
such an array is part of its result, the pickle must not say that nobody can write to it.
"""

from __future__ import annotations

import pickle
from typing import Any

from runmem.shadowed import library_module

__all__ = ["reduced_array"]


def reduced_array(obj: Any) -> tuple[Any, ...] | None:
    """Return the reduced form of an array over memory that is lent for reading, as an array that can be written to.

    None for everything else, also for an array that the program itself has made read-only.
    """
    numpy = library_module("numpy")
    if numpy is None or type(obj) is not numpy.ndarray or obj.flags.writeable:
        return None
    owner = obj
    while type(owner) is numpy.ndarray:
        owner = owner.base
    if type(owner) is not memoryview or not owner.readonly:
        return None
    memory = numpy.frombuffer(pickle.PickleBuffer(owner.obj).raw(), numpy.uint8)
    if memory.flags.writeable:
        offset = _address(obj) - _address(memory)
        writable = numpy.ndarray(obj.shape, obj.dtype, memory, offset, obj.strides)
    else:
        writable = obj.copy("K")
    reduced: tuple[Any, ...] = writable.__reduce_ex__(5)
    return reduced


def _address(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
