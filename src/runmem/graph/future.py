"""The value that a task will have."""

from __future__ import annotations

import builtins
import functools
import operator
from collections.abc import Callable, Generator
from typing import Any, NoReturn

from runmem.errors import ArgumentError, FutureAttributeError, FutureError, FutureGoneError
from runmem.graph.call import Execution, Version
from runmem.graph.current import current_program

__all__ = ["Future"]


class Future:
    """Stands for a value that a task returns; `wait_on` gives the value.

    It can be an argument of another task, also inside lists, dictionaries and objects. It does not synchronise by
    itself: it is always true, and arithmetic, `len` and iteration raise TypeError; with ``--implicit_sync`` these wait
    for the value and use it. Inside ``async def``, ``await`` gives its value, and the event loop goes on meanwhile.
    When the task declared a class of the user's as its return type, that class's task methods can be called on the
    future.
    """

    __slots__ = ("_version", "_cls", "_known", "_program_id", "is_deleted", "__weakref__")

    def __init__(self, version: Version, cls: type | None = None, program_id: object = None) -> None:
        self._version = version
        self._cls = cls
        self._program_id = program_id
        self._known: tuple[Version, object] | None = None
        self.is_deleted = False

    @property
    def version(self) -> Version:
        """The version of the datum that it stands for.

        Raises FutureGoneError if the program has deleted it, or if the run that it belongs to has ended.
        """
        if self.is_deleted:
            raise FutureGoneError(
                f"the value of {self._call} is gone: the program has deleted the future, with delete_object or by "
                "giving it to a task as IN_DELETE. Delete it after its last use."
            )
        program = current_program()
        if program is not None and self._program_id not in (None, program.identity):
            raise self.error_after_end()
        return self._version

    @version.setter
    def version(self, version: Version) -> None:
        self._version = version

    @property
    def _call(self) -> str:
        execution = self._version.execution
        return f"{execution.name} (call {execution.task_id})"

    def error_after_end(self) -> FutureGoneError:
        """Return the error of a future whose run has ended."""
        return FutureGoneError(
            f"the value of {self._call} is gone, because the run that made it has ended: get the values with wait_on "
            "before the end of a session."
        )

    def delete(self) -> bool:
        """Release the value; return False if that was done before."""
        was_there, self.is_deleted = not self.is_deleted, True
        execution = self._version.execution
        self._version, self._known = Version(Execution(execution.task_id, execution.name, 0), 0), None
        return was_there

    def _fetched(self) -> object:
        """Return the value, which is waited for once a version."""
        program = current_program()
        if program is not None and (self._known is None or self._known[0] is not self.version):
            self._known = self.version, program.wait_on((self,))
        assert self._known is not None
        return self._known[1]

    def __getattr__(self, name: str) -> Any:
        from runmem.graph.task import TaskFunction  # they know each other: a future of an object has its task methods

        method = getattr(self._cls, name, None) if not name.startswith("__") else None
        if isinstance(method, TaskFunction):
            return functools.partial(method, self)
        raise FutureAttributeError(
            f"{name!r}: this is the future of task {self._version.execution.name!r}, not its value; "
            "get the value with wait_on first."
        )

    def __await__(self) -> Generator[Any, None, Any]:
        """Give the value, or raise what the task raised; the event loop goes on meanwhile."""
        from runmem.graph.awaiting import value_of  # here, where asyncio has been imported already

        return value_of(self).__await__()

    def __repr__(self) -> str:
        return f"<Future of {self._call}: {'deleted' if self.is_deleted else 'wait_on gives its value'}>"

    def __format__(self, spec: str) -> str:
        if not spec:
            return repr(self)
        if _is_implicit():
            return format(self._fetched(), spec)
        _refusal(f"the format {spec!r}")(self)

    def __array_ufunc__(self, function: Any, method: str, *inputs: object, **options: object) -> object:
        """Apply a function of numpy to the value, or refuse it as an operator is."""
        if not _is_implicit():
            _refusal(f"numpy.{function.__name__}")(self)
        values = [each._fetched() if isinstance(each, Future) else each for each in inputs]
        return getattr(function, method)(*values, **options)

    def __bool__(self) -> bool:
        return bool(self._fetched()) if _is_implicit() else True

    def __reduce__(self) -> NoReturn:
        raise ArgumentError(
            f"{self!r} cannot be pickled by itself: pass it to a task, or get its value with wait_on first."
        )


def _refusal(name: str) -> Callable[..., NoReturn]:
    def refuse(self: Future, *_: object) -> NoReturn:
        raise FutureError(
            f"this is the future of task {self._version.execution.name!r}, not its value, so {name} does not work with "
            "it; get the value with wait_on first."
        )

    return refuse


def _operator(name: str) -> Callable[..., object]:
    """Return a method that applies an operator to the value where futures may be waited for, and else refuses."""
    reflected = name.startswith("r") and name[1:] in _OPERATORS
    plain = name[1:] if reflected else name
    apply = getattr(builtins, plain, None) or getattr(operator, f"__{plain}__")
    refuse = _refusal(_AS_WRITTEN.get(plain, f"{plain}()"))

    def method(self: Future, *others: object) -> object:
        if not _is_implicit():
            refuse(self)
        value = self._fetched()
        return apply(*others, value) if reflected else apply(value, *others)

    return method


def _is_implicit() -> bool:
    program = current_program()
    return program is not None and program.implicit_sync


# All that a value could do and a future cannot. Comparison with == stays that of identity, as in PyCOMPSs: a future can
# be looked for in a list and be the key of a dictionary. An item that is assigned would not reach tasks that get the
# future.
_OPERATORS = (
    "add",
    "sub",
    "mul",
    "matmul",
    "truediv",
    "floordiv",
    "mod",
    "divmod",
    "pow",
    "lshift",
    "rshift",
    "and",
    "xor",
    "or",
)
_OTHERS = (
    "lt", "le", "gt", "ge", "neg", "pos", "abs", "invert", "int", "float", "complex", "index", "round", "len", "iter",
    "getitem", "contains",
)  # fmt: skip
_AS_WRITTEN = {
    "add": "'+'", "sub": "'-'", "mul": "'*'", "matmul": "'@'", "truediv": "'/'", "floordiv": "'//'", "mod": "'%'",
    "pow": "'**'", "lshift": "'<<'", "rshift": "'>>'", "and": "'&'", "xor": "'^'", "or": "'|'",
    "lt": "'<'", "le": "'<='", "gt": "'>'", "ge": "'>='", "neg": "'-'", "pos": "'+'", "invert": "'~'",
    "index": "use as an index", "iter": "a loop", "getitem": "'[...]'", "contains": "'in'",
}  # fmt: skip
for _name in (*_OPERATORS, *(f"r{name}" for name in _OPERATORS), *_OTHERS):
    setattr(Future, f"__{_name}__", _operator(_name))
for _name, _use in (("setitem", "'[...] = '"), ("delitem", "'del ...[...]'")):
    setattr(Future, f"__{_name}__", _refusal(_use))
