"""Unpacks the arguments of a call, anew for each task, from the values that the worker stores."""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from runmem.memory.stored_data import HandedOver, stored_data
from runmem.serialization.packed import Packed, load_stored, stored_size
from runmem.serialization.references import loads

__all__ = ["Arguments", "Inputs", "PackedArguments", "argument_sizes", "input_of_call", "unpack"]

_loading = threading.local()


class _InputUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes, inputs: Inputs, buffers: Sequence[object]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._inputs = inputs

    def persistent_load(self, pid: int) -> object:
        return self._inputs[pid]


def input_of_call(index: int) -> object:
    """Return input `index` of the call whose arguments are being unpacked in this thread."""
    return _loading.inputs[index]


class Inputs(Sequence[object]):
    """Inputs of a call, each unpacked when it is first used.

    Parameters
    ----------
    stored : sequence
        Results and large values as a worker stores them, see `pack_value`.
    private : bool
        Whether the task may write to the large blocks of memory of all inputs; else of those in `written` only.
    last_read : frozenset of int
        Inputs that nothing else reads, now or later: their blocks are not copied if they are theirs alone.

    Attributes
    ----------
    types : str
        For a task that failed: the types of its arguments.
    remark : str
        For a task that failed: what else is known of the failure.
    has_taken : bool
        Whether it has given the task stored blocks themselves, to change in place.
    """

    def __init__(
        self,
        stored: Sequence[Any],
        private: bool,
        written: frozenset[int] = frozenset(),
        last_read: frozenset[int] = frozenset(),
    ) -> None:
        self._stored = stored
        self._private = private
        self._written = written
        self._last_read = last_read
        self._unpacked: dict[int, object] = {}
        self._taken_over: list[HandedOver] = []
        self.types = "could not be made"
        self.remark = ""
        self.has_taken = False

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, index: Any) -> Any:
        if index not in self._unpacked:
            stored = self._stored[index]
            if index in self._last_read and type(stored) is Packed:
                self._unpacked[index] = loads(stored.data, self._taken(index))
            else:
                self._unpacked[index] = load_stored(stored, self._private or index in self._written)
        return self._unpacked[index]

    def _taken(self, index: int) -> list[Any]:
        """Return the large blocks of an input, taken over from it."""
        taken = self._stored[index].take_over()
        if taken.own:
            self.has_taken = True
            self._taken_over.append(stored_data().hand_over(taken.holding, taken.own))
        return taken.blocks  # type: ignore[no-any-return]

    def reset(self) -> None:
        """Unpack the inputs again when they are next used: a task may have changed them."""
        self._unpacked.clear()

    def ended(self) -> None:
        """Note that the call has ended: its results account for the blocks that it has taken over."""
        for taken in self._taken_over:
            taken.end()
        self._taken_over.clear()

    def block(self, index: int, writable: bool) -> Any:
        """Return the memory of an input that is a large block; if `writable`, the task's own."""
        if writable and index in self._last_read:
            return self._taken(index)[0]
        block = self._stored[index].buffers[0]
        return bytearray(block) if writable or self._private else block.toreadonly()


class PackedArguments(NamedTuple):
    """Packed arguments of one call, made once by `runmem.serialization.arguments.pack`.

    Attributes
    ----------
    data : bytes
        Up to three pickles: the arguments that the task writes, if `own` is not None; the others; and, if `changing`,
        the values of the snapshot that can change in place.
    places : dict
        Position or keyword of each argument that is wholly an input, to its index among the inputs.
    values : dict
        Place in the snapshot of each value that is wholly an input, to its index.
    buffers : sequence of int
        Indexes of the inputs that are the large blocks of memory of `data`, in its order.
    own : int or None
        Number of these blocks that the task may write to; None: it writes none of the arguments in `data`.
    changing : bool
        See `data`.
    """

    data: bytes
    places: Mapping[int | str, int] = {}
    values: Mapping[int, int] = {}
    buffers: Sequence[int] = ()
    own: int | None = None
    changing: bool = False

    @property
    def is_data_alone(self) -> bool:
        """Whether all arguments are in one pickle, and the task writes none of them."""
        return self[1:] == _DATA_ALONE

    def __reduce__(self) -> tuple[object, ...]:
        return PackedArguments, self[:1] if self.is_data_alone else self[:]


_DATA_ALONE = PackedArguments(b"")[1:]


class Arguments(NamedTuple):
    """Arguments of a call for its task, and the values of the snapshot that can change in place."""

    args: list[object]
    kwargs: dict[str, object]
    values: dict[int, object]


def unpack(packed: PackedArguments, inputs: Inputs) -> Arguments:
    """Return the arguments of a call, completed with its inputs."""
    if not len(inputs) and packed.own is None and not packed.changing:
        args, kwargs = pickle.loads(packed.data)
        return Arguments(args, kwargs, {})
    blocks = [inputs.block(index, number < (packed.own or 0)) for number, index in enumerate(packed.buffers)]
    before = getattr(_loading, "inputs", None)
    _loading.inputs = inputs
    try:
        unpickler = _InputUnpickler(packed.data, inputs, blocks)
        written = unpickler.load() if packed.own is not None else {}
        args, kwargs = unpickler.load()
        values = unpickler.load() if packed.changing else {}
        for place, value in written.items():
            _put(args, kwargs, place, value)
        for place, index in packed.places.items():
            _put(args, kwargs, place, inputs[index])
        values |= {place: inputs[index] for place, index in packed.values.items()}
    finally:
        _loading.inputs = before
    return Arguments(args, kwargs, values)


def _put(args: list[object], kwargs: dict[str, object], place: int | str, value: object) -> None:
    if isinstance(place, str):
        kwargs[place] = value
    else:
        args[place] = value


def argument_sizes(
    arguments: PackedArguments, stored: Sequence[object], name_of: Callable[[int | str], str]
) -> dict[str, int]:
    """Return the size in bytes of each argument of a call that is an input, and of all others as ``others``.

    Parameters
    ----------
    stored : sequence
        The inputs of the call as the worker stores them.
    name_of : callable
        Takes the place of an argument; returns the name of its parameter.
    """
    found = {name_of(place): stored_size(stored[index]) for place, index in arguments.places.items()}
    others = len(arguments.data) + sum(stored_size(stored[index]) for index in arguments.buffers)
    return {**found, "others": found.get("others", 0) + others}
