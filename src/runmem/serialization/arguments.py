"""Packs the arguments of a call, on the master, when the task is called.

Packing reads the arguments at the call, so that the program may change them afterwards, and finds futures at any depth.
The values of the program's globals that can change in place travel with them and get the same treatment.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from runmem.errors import ArgumentError, FutureGoneError
from runmem.graph.call import TaskCall, Version
from runmem.graph.elements import root
from runmem.graph.future import Future
from runmem.serialization.definitions import ProgramDefinitions, program_definitions
from runmem.serialization.error_parts import class_name, text_of
from runmem.serialization.inputs import PackedArguments, input_of_call
from runmem.serialization.interrupts import is_interrupt
from runmem.serialization.large_values import LargeValues, Part
from runmem.serialization.packed import LARGE_BYTES, OutOfBand, beside
from runmem.serialization.references import ATOMS, ReferencePickler
from runmem.serialization.snapshot import Snapshot, Snapshots
from runmem.serialization.standard_types import remedy

__all__ = ["NO_PAYLOAD", "Payload", "Resolve", "pack"]

Resolve = Callable[[object], Version | None] | None
ClassesOf = Callable[[Version], frozenset[int]]
_NO_NUMBERS: frozenset[int] = frozenset()


class Payload(NamedTuple):
    """Everything that a call sends to its worker, except its task.

    Attributes
    ----------
    arguments : PackedArguments
    inputs : list of Version
        Results of other tasks, and large values, in the arguments; the worker receives them in this order.
    snapshot : Snapshot or None
        The definitions that the call needs.
    unshared : frozenset of Version
        Inputs that this call alone gets, for arguments that its task writes.
    """

    arguments: PackedArguments
    inputs: list[Version]
    snapshot: Snapshot | None
    unshared: frozenset[Version] = frozenset()


NO_PAYLOAD = Payload(PackedArguments(b""), [], None)


class _Inputs:
    """Collects the results of other tasks in the arguments of one call, each once."""

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

    def __init__(
        self, file: io.BytesIO, inputs: _Inputs, buffers: list[pickle.PickleBuffer], definitions: ProgramDefinitions
    ) -> None:
        super().__init__(file, definitions, beside(buffers))
        self._inputs = inputs

    def reducer_override(self, obj: object) -> object:
        if type(obj) is Future:
            return input_of_call, (self._inputs.refer(obj.version),)
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
        definitions: ProgramDefinitions,
        resolve: Callable[[object], Version | None],
    ) -> None:
        super().__init__(file, inputs, buffers, definitions)
        self._resolve = resolve

    def persistent_id(self, obj: object) -> int | None:
        version = self._resolve(obj)
        return None if version is None else self._inputs.refer(version)


class _CallPacking:
    """Packs the arguments of one call."""

    def __init__(
        self, call: TaskCall, resolve: Resolve, large: LargeValues, snapshots: Snapshots | None, classes_of: ClassesOf
    ) -> None:
        self._call = call
        self._classes_of = classes_of
        self._resolve = resolve
        self._large = large
        self._snapshots = snapshots
        self._definitions = program_definitions if snapshots is None else snapshots.definitions
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

    def payload(self) -> Payload:
        """Return the payload of the call."""
        call = self._call
        snapshot = self._snapshot(self._of_inputs())
        if self._plain and (snapshot is None or not snapshot.changing):
            data = pickle.dumps((self._args(self._parts), self._kwargs(self._parts)), pickle.HIGHEST_PROTOCOL)
            return Payload(PackedArguments(data, self._places), self._inputs.versions, snapshot)
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
        indexes, unshared = [], set()
        for number, buffer in enumerate(buffers):
            place = (call.task, "block", number) if number >= of_arguments else None
            version, is_alone = self._large.version(b"", [buffer], place=place, is_written=number < (own or 0))
            indexes.append(self._inputs.refer(version))
            unshared |= {version} if is_alone else set()
        changing = snapshot is not None and bool(snapshot.changing)
        arguments = PackedArguments(data, self._places, self._values, indexes, own, changing)
        return Payload(arguments, self._inputs.versions, snapshot, frozenset(unshared))

    def _snapshot(self, numbers: frozenset[int]) -> Snapshot | None:
        return self._snapshots.of(self._call.task, numbers) if self._snapshots is not None else None

    def _of_inputs(self) -> frozenset[int]:
        """Return the definitions to which the inputs may refer."""
        found: frozenset[int] = frozenset()
        for version in self._inputs.versions:
            if not (its := self._classes_of(version)) <= found:
                found |= its
        return found

    def _args(self, parts: Mapping[Any, Any]) -> list[object]:
        return [parts.get(position) for position in range(len(self._call.args))]

    def _kwargs(self, parts: Mapping[Any, Any]) -> dict[str, object]:
        return {name: parts.get(name) for name in self._call.kwargs}

    def _packed(
        self, parts: dict[Part, Any], snapshot: Snapshot | None
    ) -> tuple[frozenset[int], bytes, list[pickle.PickleBuffer], tuple[int | None, int]]:
        used: set[int] = set()
        known_as_large = self._large.found_large
        for part in [p for p, value in parts.items() if _is_large(value) or (self._call.task, p) in known_as_large]:
            self._send_large(part, parts[part], parts, used, snapshot)
        try:
            data, buffers, counts = self._joint(parts, used, snapshot)
        except BaseException as error:  # also SystemExit: the class of a value in it has raised this
            if is_interrupt(error):
                raise
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

        Also return the number of blocks of arguments that the task writes, and of all arguments.
        """
        file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
        pickler = self._pickler(file, buffers)
        written = {place: parts[place] for place in map(root, self._call.writes) if place in parts}
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
            return _Pickler(file, self._inputs, buffers, self._definitions)
        return _TrackingPickler(file, self._inputs, buffers, self._definitions, self._resolve)

    def _alone(
        self, part: Part, value: object, used: set[int], snapshot: Snapshot | None
    ) -> tuple[bytes, list[pickle.PickleBuffer], frozenset[int]]:
        file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
        pickler = self._pickler(file, buffers)
        try:
            pickler.dump(value)
        except BaseException as error:  # as above
            if is_interrupt(error):
                raise
            raise ArgumentError(self._refusal(part, value, error, snapshot)) from error
        used |= pickler.numbers
        return file.getvalue(), buffers, frozenset(pickler.numbers)

    def _send_large(
        self, part: Part, value: Any, parts: dict[Part, Any], used: set[int], snapshot: Snapshot | None
    ) -> None:
        """Send a part whose pickle is large by itself; not if it refers to results of tasks."""
        if type(value) in ATOMS and not _is_large(value):
            return
        inputs, self._inputs = self._inputs, _Inputs()
        try:
            given = OutOfBand(value) if _is_large(value) else value
            data, buffers, numbers = self._alone(part, given, used, snapshot)
            inside = self._inputs.versions
        finally:
            self._inputs = inputs
        if inside or len(data) <= LARGE_BYTES and not _is_large(value):
            self._large.found_large.discard((self._call.task, part))
            return
        self._large.note_large(self._call.task, part)
        if isinstance(part, tuple):
            place = (self._call.task, part[1])
            self._values[part[1]] = self._inputs.refer(self._large.version(data, buffers, numbers, place)[0])
        else:
            self._places[part] = self._inputs.refer(self._large.version(data, buffers, numbers)[0])
        del parts[part]
        self._parts.pop(part, None)

    def _refusal(self, part: Part, value: object, error: BaseException, snapshot: Snapshot | None) -> str:
        place = self._call.task.place
        if type(error) is FutureGoneError:
            return f"{place}: {error}"
        if type(part) is tuple and snapshot is not None:
            return (
                f"task {place} cannot be sent to a worker: {snapshot.describe(part[1])}, a value of type "
                f"{class_name(value)}, could not be pickled ({text_of(error)}). {remedy(error)}."
            )
        parameter = self._call.parameter_of(part)  # type: ignore[arg-type]
        return (
            f"{place}: parameter {parameter!r} cannot be sent to a worker: a value of type {class_name(value)} could "
            f"not be pickled ({text_of(error)}). {remedy(error)}."
        )


def _is_plain(value: object) -> bool:
    kind = type(value)
    return kind in ATOMS and not _is_large(value)


def _is_large(value: Any) -> bool:
    return type(value) in (bytes, bytearray, str) and len(value) > LARGE_BYTES


def pack(
    call: TaskCall, resolve: Resolve, large: LargeValues, snapshots: Snapshots | None, classes_of: ClassesOf
) -> Payload:
    """Pack the arguments of a call, and everything that its task refers to.

    Parameters
    ----------
    snapshots : Snapshots or None
        None: the call runs with the program's own definitions.
    classes_of : callable
        Returns the numbers of the definitions to which a result of another task may refer.

    Raises
    ------
    ArgumentError
        If an argument, or something that the task refers to, cannot be pickled; names it.
    """
    for value in (*call.args, *call.kwargs.values()):
        if not _is_plain(value):
            return _CallPacking(call, resolve, large, snapshots, classes_of).payload()
    snapshot = snapshots.of(call.task, _NO_NUMBERS) if snapshots is not None else None
    if snapshot is not None and snapshot.changing:
        return _CallPacking(call, resolve, large, snapshots, classes_of).payload()
    data = pickle.dumps((list(call.args), call.kwargs), pickle.HIGHEST_PROTOCOL)
    return Payload(PackedArguments(data), [], snapshot)
