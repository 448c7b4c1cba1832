"""Arguments on their way to a worker: packed on the master when the task is called, unpacked in front of the task.

Packing reads the arguments at the call, so that the program may change them afterwards, and finds futures at any depth.
The values of the program's globals that can change in place travel with them and get the same treatment. What is large
is sent once, by its content, however many calls take it.
"""

from __future__ import annotations

import io
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from weakref import WeakValueDictionary

import xxhash

from runmem.errors import ArgumentError
from runmem.graph.call import Execution, TaskCall, Version
from runmem.graph.future import Future
from runmem.graph.task import TaskFunction
from runmem.serialization.definitions import program_definitions
from runmem.serialization.packed import LARGE_BYTES, Packed, beside, unpacked
from runmem.serialization.references import ATOMS, ReferencePickler
from runmem.serialization.snapshot import Snapshot, Snapshots
from runmem.serialization.standard_types import remedy

__all__ = ["NO_BODY", "Arguments", "Body", "Inputs", "LargeValues", "pack", "unpack"]

Resolve = Callable[[Any], Version | None] | None
ClassesOf = Callable[[Version], frozenset[int]]
Part = int | str | tuple[str, int]  # a position, a keyword, or ("value", place of a snapshot)
_MOST_FOUND = 1000
_NO_NUMBERS: frozenset[int] = frozenset()
_loading = threading.local()


class Body(NamedTuple):
    """Packed arguments of one call.

    Attributes
    ----------
    data : bytes
        Up to three pickles: of the arguments that the task writes, if `own` says so; of the others; and, if `changing`
        says so, of the snapshot's values that can change in place.
    inputs : list of Version
        Results of other tasks, and large values, that stand in the arguments; on the worker they come in this order.
    places : dict
        Position or keyword of each argument that is wholly an input, to its index in `inputs`.
    values : dict
        Place in the snapshot of each value that is wholly an input, to its index.
    buffers : list of int
        The inputs that are the large blocks of memory of `data`, in its order.
    own : int or None
        How many of these the task may write to; None: it writes none of the arguments that are in `data`.
    changing : bool
        See `data`.
    snapshot : Snapshot or None
        The definitions that the call needs.
    """

    data: bytes
    inputs: list[Version]
    places: dict[int | str, int]
    values: dict[int, int]
    buffers: list[int]
    own: int | None
    changing: bool
    snapshot: Snapshot | None


NO_BODY = Body(b"", [], {}, {}, [], None, False, None)


class LargeValues:
    """Versions of large values by their content.

    Parameters
    ----------
    send : callable
        Takes a `Packed`, and the numbers of the definitions that it refers to; returns the version that stands for the
        value on the cluster.
    keep_bytes : int
        How much is kept for calls to come. What waiting calls refer to lives on anyway, and is found again.

    Attributes
    ----------
    found_large : set
        Tasks, with an argument or value of each that was large at its last call: it need not be pickled twice to know.
    """

    def __init__(self, send: Callable[[Packed, frozenset[int]], Version], keep_bytes: int = 64 * 1024**2) -> None:
        self._send = send
        self._keep_bytes = keep_bytes
        self._kept: OrderedDict[str, tuple[int, Version]] = OrderedDict()
        self._alive: WeakValueDictionary[str, Execution] = WeakValueDictionary()
        self._of_places: dict[tuple[Any, ...], str] = {}
        self.found_large: set[tuple[TaskFunction, Part]] = set()

    def note_large(self, task: TaskFunction, part: Part) -> None:
        """Note that an argument or value of a task was large."""
        if len(self.found_large) > _MOST_FOUND:
            self.found_large.clear()
        self.found_large.add((task, part))

    def version(
        self,
        data: bytes,
        buffers: Sequence[pickle.PickleBuffer],
        numbers: frozenset[int] = frozenset(),
        place: tuple[Any, ...] | None = None,
    ) -> Version:
        """Return the version of the value with this pickle and these buffers, which are copied if need be.

        `place`: where the program keeps the value, if it is that of a global or the like. What was there before is not
        kept.
        """
        content = xxhash.xxh3_128(data)
        for buffer in buffers:
            content.update(buffer.raw())
        digest = content.hexdigest()
        execution = self._alive.get(digest)
        if execution is not None:
            version = Version(execution, 0)
        else:
            version = self._send(Packed(data, [bytearray(b.raw()) for b in buffers]), numbers)
            self._alive[digest] = version.execution
        size = len(data) + sum(buffer.raw().nbytes for buffer in buffers)
        if place is not None:
            if (before := self._of_places.get(place, digest)) != digest:
                self._kept.pop(before, None)
            self._of_places[place] = digest
        self._kept.pop(digest, None)
        self._kept[digest] = size, version
        while sum(kept for kept, _ in self._kept.values()) > self._keep_bytes and len(self._kept) > 1:
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


class _Pickler(ReferencePickler):
    """Pickles arguments; a future becomes a reference to an input."""

    def __init__(self, file: io.BytesIO, inputs: _Inputs, buffers: list[pickle.PickleBuffer]) -> None:
        super().__init__(file, program_definitions, beside(buffers))
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
        self,
        file: io.BytesIO,
        inputs: _Inputs,
        buffers: list[pickle.PickleBuffer],
        resolve: Callable[[Any], Version | None],
    ) -> None:
        super().__init__(file, inputs, buffers)
        self._resolve = resolve

    def persistent_id(self, obj: Any) -> int | None:
        version = self._resolve(obj)
        return None if version is None else self._inputs.refer(version)


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, inputs: Inputs, buffers: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._inputs = inputs

    def persistent_load(self, pid: int) -> Any:
        return self._inputs[pid]


def _input(index: int) -> Any:
    """Return input `index` of the call whose arguments are being unpacked in this thread."""
    return _loading.inputs[index]


class _Packing:
    """One call while its arguments are packed."""

    def __init__(
        self, call: TaskCall, resolve: Resolve, large: LargeValues, snapshots: Snapshots | None, classes_of: ClassesOf
    ) -> None:
        self._call = call
        self._classes_of = classes_of
        self._resolve = resolve
        self._large = large
        self._snapshots = snapshots
        self._inputs = _Inputs()
        self._places: dict[int | str, int] = {}
        self._values: dict[int, int] = {}
        self._parts: dict[Part, Any] = {}
        self._plain = True
        given: list[tuple[int | str, Any]] = [*enumerate(call.args), *call.kwargs.items()]
        for place, value in given:
            if type(value) is Version:
                self._places[place] = self._inputs.refer(value)
            else:
                self._parts[place] = value
                self._plain = self._plain and _is_plain(value)

    def body(self) -> Body:
        """Return the packed arguments."""
        call = self._call
        snapshot = self._snapshot(self._of_inputs())
        if self._plain and (snapshot is None or not snapshot.changing):
            data = pickle.dumps((self._args(self._parts), self._kwargs(self._parts)), pickle.HIGHEST_PROTOCOL)
            return Body(data, self._inputs.versions, self._places, {}, [], None, False, snapshot)
        while True:
            parts: dict[Part, Any] = dict(self._parts)
            self._values = {}
            if snapshot is not None:
                parts |= {("value", place): value for place, value in snapshot.changing.items()}
            used, data, buffers, (own, of_arguments) = self._packed(parts, snapshot)
            known = snapshot.travelling if snapshot is not None else frozenset()
            used |= self._of_inputs()
            if used <= known or self._snapshots is None:
                break
            snapshot = self._snapshot(used)
        indexes = []
        for number, buffer in enumerate(buffers):
            place = (call.task, "block", number) if number >= of_arguments else None
            indexes.append(self._inputs.refer(self._large.version(b"", [buffer], place=place)))
        changing = snapshot is not None and bool(snapshot.changing)
        return Body(data, self._inputs.versions, self._places, self._values, indexes, own, changing, snapshot)

    def _snapshot(self, numbers: frozenset[int]) -> Snapshot | None:
        return self._snapshots.of(self._call.task, numbers) if self._snapshots is not None else None

    def _of_inputs(self) -> frozenset[int]:
        """Return the definitions that the inputs may be made of."""
        found: frozenset[int] = frozenset()
        for version in self._inputs.versions:
            if not (its := self._classes_of(version)) <= found:
                found |= its
        return found

    def _args(self, parts: Mapping[Any, Any]) -> list[Any]:
        return [parts.get(position) for position in range(len(self._call.args))]

    def _kwargs(self, parts: Mapping[Any, Any]) -> dict[str, Any]:
        return {name: parts.get(name) for name in self._call.kwargs}

    def _packed(
        self, parts: dict[Part, Any], snapshot: Snapshot | None
    ) -> tuple[frozenset[int], bytes, list[pickle.PickleBuffer], tuple[int | None, int]]:
        used: set[int] = set()
        for part in [part for part in parts if (self._call.task, part) in self._large.found_large]:
            self._send_large(part, parts[part], parts, used, snapshot)
        try:
            data, buffers, counts = self._joint(parts, used, snapshot)
        except Exception:
            for part, value in parts.items():
                self._alone(part, value, used, snapshot)  # raises for the one that is to blame
            raise
        if len(data) > LARGE_BYTES:
            for part, value in list(parts.items()):
                self._send_large(part, value, parts, used, snapshot)
            data, buffers, counts = self._joint(parts, used, snapshot)
        return frozenset(used), data, buffers, counts

    def _joint(
        self, parts: dict[Part, Any], used: set[int], snapshot: Snapshot | None
    ) -> tuple[bytes, list[pickle.PickleBuffer], tuple[int | None, int]]:
        """Pickle all parts with one memory, so that an object that several of them refer to stays one.

        Also returned: how many of the blocks are of arguments that the task writes, and of any arguments.
        """
        file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
        pickler = self._pickler(file, buffers)
        written = {place: parts[place] for place in self._call.writes if place in parts}
        own = None
        if written:
            pickler.dump(written)
            own = len(buffers)
        rest = {part: value for part, value in parts.items() if part not in written}
        pickler.dump((self._args(rest), self._kwargs(rest)))
        of_arguments = len(buffers)
        if snapshot is not None and snapshot.changing:
            pickler.dump({part[1]: value for part, value in rest.items() if isinstance(part, tuple)})
        used |= pickler.numbers
        return file.getvalue(), buffers, (own, of_arguments)

    def _pickler(self, file: io.BytesIO, buffers: list[pickle.PickleBuffer]) -> _Pickler:
        if self._resolve is None:
            return _Pickler(file, self._inputs, buffers)
        return _TrackingPickler(file, self._inputs, buffers, self._resolve)

    def _alone(
        self, part: Part, value: Any, used: set[int], snapshot: Snapshot | None
    ) -> tuple[bytes, list[pickle.PickleBuffer], frozenset[int]]:
        file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
        pickler = self._pickler(file, buffers)
        try:
            pickler.dump(value)
        except Exception as error:
            raise ArgumentError(self._refusal(part, value, error, snapshot)) from error
        used |= pickler.numbers
        return file.getvalue(), buffers, frozenset(pickler.numbers)

    def _send_large(
        self, part: Part, value: Any, parts: dict[Part, Any], used: set[int], snapshot: Snapshot | None
    ) -> None:
        """Send a part whose pickle is large by itself; not if it refers to results of tasks."""
        if type(value) in ATOMS and not (type(value) in (str, bytes) and len(value) > LARGE_BYTES):
            return
        inputs, self._inputs = self._inputs, _Inputs()
        try:
            data, buffers, numbers = self._alone(part, value, used, snapshot)
            inside = self._inputs.versions
        finally:
            self._inputs = inputs
        if inside or len(data) <= LARGE_BYTES:
            self._large.found_large.discard((self._call.task, part))
            return
        self._large.note_large(self._call.task, part)
        if isinstance(part, tuple):
            place = (self._call.task, part[1])
            self._values[part[1]] = self._inputs.refer(self._large.version(data, buffers, numbers, place))
        else:
            self._places[part] = self._inputs.refer(self._large.version(data, buffers, numbers))
        del parts[part]
        self._parts.pop(part, None)

    def _refusal(self, part: Part, value: Any, error: Exception, snapshot: Snapshot | None) -> str:
        name = self._call.task.name
        if type(part) is tuple and snapshot is not None:
            return (
                f"task {name} cannot be sent to a worker: {snapshot.describe(part[1])}, a value of type "
                f"{type(value).__name__}, could not be pickled ({type(error).__name__}: {error}). {remedy(error)}."
            )
        parameter = self._call.parameter_of(part)  # type: ignore[arg-type]
        return (
            f"{name}: parameter {parameter!r} cannot be sent to a worker: a value of type {type(value).__name__} could "
            f"not be pickled ({type(error).__name__}: {error}). {remedy(error)}."
        )


def _is_plain(value: Any) -> bool:
    kind = type(value)
    return kind in ATOMS and not (kind in (str, bytes) and len(value) > LARGE_BYTES)


def pack(
    call: TaskCall, resolve: Resolve, large: LargeValues, snapshots: Snapshots | None, classes_of: ClassesOf
) -> Body:
    """Pack the arguments of a call, and what its task refers to.

    Parameters
    ----------
    snapshots : Snapshots or None
        None: the call runs with the program's own definitions.
    classes_of : callable
        Gives the numbers of the definitions that a result of another task may be made of.

    Raises
    ------
    ArgumentError
        If an argument, or something that the task refers to, cannot be pickled; names it.
    """
    for value in (*call.args, *call.kwargs.values()):
        if not _is_plain(value):
            return _Packing(call, resolve, large, snapshots, classes_of).body()
    snapshot = snapshots.of(call.task, _NO_NUMBERS) if snapshots is not None else None
    if snapshot is not None and snapshot.changing:
        return _Packing(call, resolve, large, snapshots, classes_of).body()
    data = pickle.dumps((list(call.args), call.kwargs), pickle.HIGHEST_PROTOCOL)
    return Body(data, [], {}, {}, [], None, False, snapshot)


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
