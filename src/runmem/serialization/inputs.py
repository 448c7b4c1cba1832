"""Arguments where they arrive: made anew for each task from what the worker keeps."""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from runmem.serialization.packed import unpacked

__all__ = ["Arguments", "Inputs", "PackedArguments", "input_of_call", "unpack"]

_loading = threading.local()


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, inputs: Inputs, buffers: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._inputs = inputs

    def persistent_load(self, pid: int) -> Any:
        return self._inputs[pid]


def input_of_call(index: int) -> Any:
    """Return input `index` of the call whose arguments are being unpacked in this thread."""
    return _loading.inputs[index]


class Inputs(Sequence[Any]):
    """The inputs of a call as the task is to have them: each unpacked once, when it is asked for.

    Parameters
    ----------
    kept : sequence
        Results and large values as a worker keeps them, see `packed`.
    private : bool
        Whether the task may write to the large blocks of memory of any; else of those in `written` only.

    Attributes
    ----------
    types : str
        For a task that failed: the types of its arguments.
    """

    def __init__(self, kept: Sequence[Any], private: bool, written: frozenset[int] = frozenset()) -> None:
        self._kept = kept
        self._private = private
        self._written = written
        self._unpacked: dict[int, Any] = {}
        self.types = "could not be made"

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: Any) -> Any:
        if index not in self._unpacked:
            self._unpacked[index] = unpacked(self._kept[index], self._private or index in self._written)
        return self._unpacked[index]

    def make_anew(self) -> None:
        """Let the inputs be unpacked again: a task may have changed them."""
        self._unpacked.clear()

    def block(self, index: int, writable: bool) -> Any:
        """Return the memory of an input that is a large block; `writable`: a copy of it."""
        block = self._kept[index].buffers[0]
        return bytearray(block) if writable or self._private else block.toreadonly()


class PackedArguments(Protocol):
    """What `unpack` needs of a `Body`."""

    @property
    def data(self) -> bytes: ...
    @property
    def places(self) -> Mapping[int | str, int]: ...
    @property
    def values(self) -> Mapping[int, int]: ...
    @property
    def buffers(self) -> Sequence[int]: ...
    @property
    def own(self) -> int | None: ...
    @property
    def changing(self) -> bool: ...


class Arguments(NamedTuple):
    """Arguments of a call as the task gets them, and the values of the snapshot that can change in place."""

    args: list[Any]
    kwargs: dict[str, Any]
    values: dict[int, Any]


def unpack(body: PackedArguments, inputs: Inputs) -> Arguments:
    """Return the arguments of a call, with its inputs in their places."""
    if not len(inputs) and body.own is None and not body.changing:
        args, kwargs = pickle.loads(body.data)
        return Arguments(args, kwargs, {})
    blocks = [inputs.block(index, number < (body.own or 0)) for number, index in enumerate(body.buffers)]
    before = getattr(_loading, "inputs", None)
    _loading.inputs = inputs
    try:
        unpickler = _Unpickler(body.data, inputs, blocks)
        written = unpickler.load() if body.own is not None else {}
        args, kwargs = unpickler.load()
        values = unpickler.load() if body.changing else {}
        for place, value in written.items():
            _put(args, kwargs, place, value)
        for place, index in body.places.items():
            _put(args, kwargs, place, inputs[index])
        values |= {place: inputs[index] for place, index in body.values.items()}
    finally:
        _loading.inputs = before
    return Arguments(args, kwargs, values)


def _put(args: list[Any], kwargs: dict[str, Any], place: int | str, value: Any) -> None:
    if isinstance(place, str):
        kwargs[place] = value
    else:
        args[place] = value
