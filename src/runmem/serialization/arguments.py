"""Arguments on their way to a worker: packed on the master when the task is called, unpacked in front of the task.

Packing reads the arguments at the call, so that the program may change them afterwards, and finds futures at any depth.
A large argument is sent once, by its content, however many calls take it.
"""

from __future__ import annotations

import io
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import xxhash

from runmem.errors import ArgumentError
from runmem.graph.call import Execution, TaskCall, Version
from runmem.graph.future import Future
from runmem.serialization.pickling import Pickler, dumps

__all__ = ["Body", "Literal", "pack", "unpack", "LargeArguments", "private_copy"]

_PLAIN = frozenset((int, float, str, bytes, bool, complex, type(None)))
LARGE_BYTES = 256 * 1024

Buffers = list[pickle.PickleBuffer] | None
Resolve = Callable[[Any], Version | None] | None
_loading = threading.local()


class Body:
    """Packed arguments of one call.

    Attributes
    ----------
    data : bytes
        The pickled arguments.
    inputs : list of Version
        Results of other tasks that stand in the arguments; on the worker they come in this order.
    places : dict
        Position or keyword of each argument that is wholly an input, to its index in `inputs`.
    """

    __slots__ = ("data", "inputs", "places")

    def __init__(self, data: bytes, inputs: list[Version], places: dict[int | str, int]) -> None:
        self.data = data
        self.inputs = inputs
        self.places = places


class Buffer:
    """Bytes that travel beside a pickle rather than inside it, so that nobody copies them on the way."""

    __slots__ = ("data",)

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Buffer, (pickle.PickleBuffer(self.data),)


class Literal:
    """A value of the program's on its way to a worker, as it was when it was packed."""

    __slots__ = ("data", "buffers")

    def __init__(self, data: bytes, buffers: Sequence[Any] = ()) -> None:
        self.data = data
        self.buffers = [Buffer(buffer) for buffer in buffers]

    def load(self) -> Any:
        """Return the value, once: what it was packed in is let go, so that a worker does not hold it twice."""
        views = [memoryview(buffer.data) for buffer in self.buffers]
        data, self.data, self.buffers = self.data, b"", []
        return pickle.loads(data, buffers=[bytearray(view) if view.readonly else view for view in views])


class LargeArguments:
    """Versions of large arguments by their content.

    Parameters
    ----------
    send : callable
        Takes a `Literal`; returns the version that stands for the value on the cluster.
    keep_bytes : int
        How much is kept for calls to come. What waiting calls refer to lives on anyway, and is found again.
    """

    def __init__(self, send: Callable[[Literal], Version], keep_bytes: int = 64 * 1024**2) -> None:
        self._send = send
        self._keep_bytes = keep_bytes
        self._kept: OrderedDict[str, tuple[int, Version]] = OrderedDict()
        self._alive: WeakValueDictionary[str, Execution] = WeakValueDictionary()

    def version(self, data: bytes, buffers: Sequence[pickle.PickleBuffer]) -> Version:
        """Return the version of the value with this pickle and these out-of-band buffers; they are copied if needed."""
        content = xxhash.xxh3_128(data)
        for buffer in buffers:
            content.update(buffer.raw())
        digest = content.hexdigest()
        execution = self._alive.get(digest)
        if execution is not None:
            version = Version(execution, 0)
        else:
            version = self._send(Literal(data, [bytes(b.raw()) for b in buffers]))
            self._alive[digest] = version.execution
        size = len(data) + sum(buffer.raw().nbytes for buffer in buffers)
        self._kept.pop(digest, None)
        self._kept[digest] = size, version
        while sum(kept for kept, _ in self._kept.values()) > self._keep_bytes:
            self._kept.popitem(last=False)
        return version


class _Inputs:
    """Collects the results of other tasks that the arguments of one call refer to, each once."""

    def __init__(self) -> None:
        self.versions: list[Version] = []
        self._index: dict[Version, int] = {}

    def refer(self, version: Version) -> int:
        """Return the index of an input."""
        if version not in self._index:
            self._index[version] = len(self.versions)
            self.versions.append(version)
        return self._index[version]


class _Pickler(Pickler):
    """Pickles arguments; a future becomes a reference to an input."""

    def __init__(self, file: io.BytesIO, inputs: _Inputs, buffers: Buffers) -> None:
        callback = None if buffers is None else buffers.append
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=callback)
        self._inputs = inputs

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is Future:
            return _input, (self._inputs.refer(obj.version),)
        return super().reducer_override(obj)


class _TrackingPickler(_Pickler):
    """Pickles arguments; a tracked object becomes a reference too.

    Asked about every object: `reducer_override` is not asked about lists, dictionaries and other built-in containers.
    """

    def __init__(
        self, file: io.BytesIO, inputs: _Inputs, buffers: Buffers, resolve: Callable[[Any], Version | None]
    ) -> None:
        super().__init__(file, inputs, buffers)
        self._resolve = resolve

    def persistent_id(self, obj: Any) -> int | None:
        version = self._resolve(obj)
        return None if version is None else self._inputs.refer(version)


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, inputs: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(data))
        self._inputs = inputs

    def persistent_load(self, pid: int) -> Any:
        return self._inputs[pid]


def _input(index: int) -> Any:
    """Return input `index` of the call whose arguments are being unpacked in this thread."""
    return _loading.inputs[index]


def pack(call: TaskCall, resolve: Resolve, large: LargeArguments) -> Body:
    """Pack the arguments of a call.

    Raises
    ------
    ArgumentError
        If an argument cannot be pickled; names the parameter.
    """
    inputs = _Inputs()
    places: dict[int | str, int] = {}
    values = dict[int | str, Any](enumerate(call.args))
    values.update(call.kwargs)
    plain = True
    for place, value in values.items():
        kind = type(value)
        if kind is Version:
            places[place] = inputs.refer(value)
            values[place] = None
        else:
            plain = plain and kind in _PLAIN and not (kind in (str, bytes) and len(value) > LARGE_BYTES)
    if not plain and _size(values, resolve, call) > LARGE_BYTES:
        for place, value in values.items():
            if (version := _large_version(value, resolve, large, call, place)) is not None:
                places[place] = inputs.refer(version)
                values[place] = None
    args = [values[position] for position in range(len(call.args))]
    kwargs = {name: values[name] for name in call.kwargs}
    if plain:
        return Body(pickle.dumps((args, kwargs), pickle.HIGHEST_PROTOCOL), inputs.versions, places)
    return Body(_pickled((args, kwargs), resolve, inputs), inputs.versions, places)


def _size(values: dict[int | str, Any], resolve: Resolve, call: TaskCall) -> int:
    """Return the size in bytes that the arguments have when they are packed; nothing large is copied to know it."""
    inputs = _Inputs()
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = _pickled(list(values.values()), resolve, inputs, buffers)
    except Exception:
        for place, value in values.items():
            _dumps(value, resolve, inputs, call, place)  # raises for the one that is to blame
        raise
    return len(data) + sum(buffer.raw().nbytes for buffer in buffers)


def _large_version(
    value: Any, resolve: Resolve, large: LargeArguments, call: TaskCall, place: int | str
) -> Version | None:
    """Return the version of a large argument; None if it is small, or refers to results of tasks."""
    inside = _Inputs()
    buffers: list[pickle.PickleBuffer] = []
    data = _dumps(value, resolve, inside, call, place, buffers)
    size = len(data) + sum(buffer.raw().nbytes for buffer in buffers)
    return None if inside.versions or size <= LARGE_BYTES else large.version(data, buffers)


def _pickled(value: Any, resolve: Resolve, inputs: _Inputs, buffers: Buffers = None) -> bytes:
    file = io.BytesIO()
    pickler = _Pickler(file, inputs, buffers) if resolve is None else _TrackingPickler(file, inputs, buffers, resolve)
    pickler.dump(value)
    return file.getvalue()


def _dumps(
    value: Any, resolve: Resolve, inputs: _Inputs, call: TaskCall, place: int | str, buffers: Buffers = None
) -> bytes:
    try:
        return _pickled(value, resolve, inputs, buffers)
    except Exception as error:
        raise ArgumentError(
            f"{call.task.name}: parameter {call.parameter_of(place)!r} cannot be sent to a worker: a value of type "
            f"{type(value).__name__} could not be pickled ({type(error).__name__}: {error}). Pass what the task needs "
            "to make it, for example a path instead of an open file, and make it inside the task."
        ) from error


def unpack(data: bytes, inputs: Sequence[Any], places: dict[int | str, int]) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call, with its inputs in their places."""
    _loading.inputs = inputs
    try:
        args, kwargs = _Unpickler(data, inputs).load() if inputs else pickle.loads(data)
    finally:
        _loading.inputs = ()
    for place, index in places.items():
        holder: Any = kwargs if isinstance(place, str) else args
        holder[place] = inputs[index]
    return args, kwargs


def private_copy(value: Any) -> Any:
    """Return a copy of `value` that shares nothing changeable with it.

    Arrays are copied once: pickle protocol 5 with out-of-band buffers.
    """
    if type(value) in _PLAIN:
        return value
    buffers: list[pickle.PickleBuffer] = []
    data = dumps(value, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytearray(buffer.raw()) for buffer in buffers])
