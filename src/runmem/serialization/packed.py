"""Packs results and large arguments for storage on workers, so that no two tasks share values that one may change.

A value that can change is stored as its pickle, from which each reader makes a copy of its own. Large blocks of memory
in it, such as the data of arrays, are stored beside the pickle. They are copied neither when they are packed nor for
each reader; readers cannot write to them, except readers that get copies of them too.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

from runmem.errors import ResultError
from runmem.memory.stored_data import StoredItem, stored_data
from runmem.serialization.error_parts import class_name, text_of
from runmem.serialization.interrupts import is_interrupt
from runmem.serialization.owned_memory import claim, only_reference
from runmem.serialization.references import ATOMS, dumps, loads
from runmem.serialization.standard_types import remedy
from runmem.store.node_name import node_name

__all__ = [
    "LARGE_BYTES",
    "Buffer",
    "Wrapped",
    "OutOfBand",
    "Packed",
    "TakenOver",
    "Unsendable",
    "beside",
    "holdings",
    "pack_value",
    "stored_size",
    "take_stored",
    "load_stored",
]

LARGE_BYTES = 256 * 1024
"""A block of memory of this size or more travels beside the pickle that it belongs to."""


class Buffer:
    """Bytes that travel beside a pickle rather than inside it, and so without a copy."""

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> tuple[object, ...]:
        return Buffer, (pickle.PickleBuffer(self.data) if protocol >= 5 else bytes(self.data),)


class OutOfBand:
    """Stands for a large `bytes`, `bytearray` or `str`, which `pickle` would copy into the pickle (PEP 574)."""

    def __init__(self, value: bytes | bytearray | str) -> None:
        self.value = value

    def __reduce_ex__(self, protocol: Any) -> tuple[object, ...]:
        if isinstance(self.value, str):
            return _text_again, (pickle.PickleBuffer(self.value.encode("utf-8", "surrogatepass")),)
        return type(self.value), (pickle.PickleBuffer(self.value),)


def _text_again(data: Any) -> str:
    return str(data, "utf-8", "surrogatepass")


class _Gone(tuple[Any, ...]):
    """The blocks of a value that a call has taken over: whoever wants to read them gets an error."""

    __slots__ = ()

    def __iter__(self) -> NoReturn:
        raise ResultError(
            "a value was read after a task had begun to change it in place, which runmem does only if no other task "
            "reads it. Please report this; with --inputs=copied, each task gets a copy."
        )


class TakenOver(NamedTuple):
    """What a call has taken over from a stored value.

    Attributes
    ----------
    blocks : list
        Large blocks that the call may write to: the memory itself, or a copy where something else refers to it.
    own : list
        Those that are the memory itself.
    holding : StoredItem or None
    """

    blocks: list[Any]
    own: list[Any]
    holding: StoredItem | None


class Packed:
    """A value as its pickle, and the large blocks of memory that belong to it.

    Parameters
    ----------
    data : bytes or memoryview
    buffers : sequence of objects with the buffer protocol
    received : bool
        Whether it comes from another process, or from disk.
    """

    __slots__ = ("data", "buffers", "holding", "__weakref__")

    def __init__(self, data: bytes | memoryview, buffers: Sequence[Any] = (), received: bool = False) -> None:
        self.data = data
        self.buffers = tuple(memoryview(buffer).cast("B") for buffer in buffers)
        inside = sum(buffer.nbytes for buffer in self.buffers)
        account = stored_data()
        self.holding = account.add_received(inside, len(data)) if received else account.add(inside + len(data))

    def __del__(self) -> None:
        if (holding := getattr(self, "holding", None)) is not None:
            with stored_data().removing(holding):
                self.data, self.buffers = b"", ()

    def __reduce__(self) -> tuple[object, ...]:
        data = Buffer(self.data) if len(self.data) > LARGE_BYTES else self.data
        return _packed_again, (data, [Buffer(buffer) for buffer in self.buffers])

    def __dask_tokenize__(self) -> object:
        """Return a token, so that Dask does not hash all its content; runmem chooses the key."""
        return id(self)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        inside = 0 if type(self.buffers) is _Gone else sum(buffer.nbytes for buffer in self.buffers)
        return len(self.data) + inside

    def __sizeof__(self) -> int:
        """Return the size that Dask adds to the memory of its worker."""
        return self.nbytes + 200

    def load(self, private: bool) -> object:
        """Return the value; `private`: with copies of its large blocks, which can be written to."""
        if private:
            return loads(self.data, [bytearray(buffer) for buffer in self.buffers])
        return loads(self.data, [buffer.toreadonly() for buffer in self.buffers])

    def copied(self) -> Packed:
        """Return a copy with large blocks of its own."""
        return Packed(self.data, [bytearray(buffer) for buffer in self.buffers])

    def take_over(self) -> TakenOver:
        """Give the large blocks to a call, which is to be the last reader of the value.

        If nothing is taken over, the value stays readable.
        """
        held: list[Any] = [self.buffers]
        self.buffers = _Gone()  # before it is looked at who else reads the blocks: from now on nobody begins to
        if not held[0] or not only_reference(held, 0):
            self.buffers = held[0]
            return TakenOver([bytearray(buffer) for buffer in self.buffers], [], None)
        views = list(held.pop())
        found = claim(views)
        own = [block.view for block in found if block.is_own]
        if not own:
            self.buffers = tuple(block.view for block in found)
            return TakenOver([bytearray(buffer) for buffer in self.buffers], [], None)
        holding, self.holding = self.holding, None
        return TakenOver([view if is_own else bytearray(view) for view, is_own in found], own, holding)

    def take(self) -> object:
        """Return the value over the same blocks, which nothing else may read any more."""
        return loads(self.data, [bytearray(b) if b.readonly else b for b in self.buffers])


def _packed_again(data: bytes | Buffer, buffers: list[Buffer]) -> Packed:
    return Packed(
        memoryview(data.data) if isinstance(data, Buffer) else data, [buffer.data for buffer in buffers], received=True
    )


class Unsendable:
    """Stands for a value that cannot be packed; its text is the error of reading the value."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> tuple[object, ...]:
        return Unsendable, (self.text,)


class Wrapped:
    """Wraps several results for Dask, which would serialise the items of a tuple one by one."""

    __slots__ = ("values",)

    def __init__(self, values: tuple[object, ...]) -> None:
        self.values = values

    def __reduce__(self) -> tuple[object, ...]:
        return Wrapped, (self.values,)

    def __sizeof__(self) -> int:
        """Return the size that Dask adds to the memory of its worker."""
        return 200 + sum(_size(value) for value in self.values)


def holdings(values: Iterable[object]) -> list[StoredItem]:
    """Return the holdings of stored values in this process, as far as they are large."""
    found: list[StoredItem] = []
    for value in values:
        if type(value) is Packed:
            if value.holding is not None:
                found.append(value.holding)
        elif type(value) is Wrapped:
            found += holdings(value.values)
        elif type(value) is tuple:
            found += holdings(value)
    return found


def _size(value: Any) -> int:
    if type(value) is tuple:
        return sum(map(_size, value))
    return value.__sizeof__()  # type: ignore[no-any-return]


def stored_size(value: object) -> int:
    """Return the size of a stored value in bytes."""
    if type(value) is Packed:
        return value.nbytes
    if type(value) is Wrapped:
        return stored_size(value.values)
    return sum(map(stored_size, value)) if type(value) is tuple else sys.getsizeof(value)


def beside(buffers: list[pickle.PickleBuffer]) -> Any:
    """Return a `buffer_callback` that collects large blocks and leaves others in the pickle."""

    def callback(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < LARGE_BYTES:
            return True
        buffers.append(buffer)
        return False

    return callback


def pack_value(value: object, what: str) -> object:
    """Return a value for storage; `what` names it in the error if it cannot be packed."""
    if type(value) in ATOMS:
        return value
    try:
        buffers: list[pickle.PickleBuffer] = []
        data = dumps(value, beside(buffers))
        return Packed(data, [buffer.raw() for buffer in buffers])
    except BaseException as error:  # also SystemExit: the class of a value in it has raised this
        if is_interrupt(error):
            raise
        return Unsendable(
            f"{what}, of type {class_name(value)}, cannot be sent to another process: on node {node_name()} it could "
            f"not be pickled ({text_of(error)}). A task must return what can be pickled: return the data that the "
            f"value is made from, or use the value in the same task. {remedy(error)}."
        )


def load_stored(value: object, private: bool = True) -> object:
    """Return the value of a stored one, or an equal one.

    Raises
    ------
    ResultError
        If it could not be packed.
    """
    if type(value) is Packed:
        return value.load(private)
    if type(value) is Unsendable:
        raise ResultError(value.text)
    return value


def take_stored(value: object) -> object:
    """Return the value of a stored one, over the same memory, which nothing else may read any more."""
    return value.take() if type(value) is Packed else load_stored(value)
