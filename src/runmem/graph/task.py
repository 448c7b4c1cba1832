"""`@task`: declares that calls of a function may run in parallel."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Protocol

from runmem.errors import TaskDeclarationError, TaskWarning
from runmem.graph import compiled
from runmem.graph.constraints import CONSTRAINTS, Constraints
from runmem.graph.current import current_program
from runmem.graph.failure import failure_policy, memory_policy
from runmem.graph.global_changes import Change, global_changes
from runmem.graph.isolation import Isolation
from runmem.graph.lazy_values import completed, refuse_async_generators
from runmem.graph.options import directions_in, in_snake_case, memory_size, time_limit, unknown_options, without_effect
from runmem.graph.reduction import DEFAULT_CHUNK_SIZE, chunk_size_in, collection_of, reduce_in_chunks
from runmem.graph.returns import Returns, declared_returns, returns_of_call
from runmem.graph.signature import TaskSignature

if TYPE_CHECKING:
    from runmem.graph.program import Program

__all__ = ["BEFORE_CALL", "LAUNCH", "Launch", "TaskFunction", "find_task", "only_warns", "task"]

# Options that only decorators above `@task` set: no parameter can have such a name.
LAUNCH, BEFORE_CALL = "@launch", "@before_call"


class Launch(Protocol):
    """How a task runs whose function is not simply called: as a command, in a container, with steps around it."""

    def run(self, task: TaskFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        """Run one call of the task in this process, to its end, and return its value."""


class TaskFunction:
    """A function whose calls become tasks while a program runs under runmem; otherwise they are plain calls.

    Attributes
    ----------
    function : callable
        The decorated function.
    name, module, file : str
        Qualified name; name of the module (of the program's file for the program itself); source file.
    isolation : Isolation
        How its calls are kept apart from others.
    memory_bytes : int or None
        Memory that a call is expected to need beyond what its worker has in use; None: its declaration does not say.
    on_failure : OnFailure or None
        What is done about a call that raised; None: waiting for it raises.
    on_memory : str or None
        What is done about a call whose process was killed for its memory; None: what the run says.
    data_id : str or None
        Data id of a task that was made for one call; its record has it.
    """

    data_id: str | None = None
    _unknown: tuple[str, ...] = ()  # remarks about options that were dropped
    _remarks: tuple[str, ...] | None = None  # not said yet

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self._set(function, options)

    def _set(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.function = function
        self.options = options
        functools.update_wrapper(self, function)
        # A partial or a callable object has no name of its own: it goes by that of what it calls.
        self.__qualname__ = _qualified_name(function)
        self.__module__ = getattr(_innermost(function), "__module__", None) or "__main__"
        self.name: str = self.__qualname__.replace("<locals>.", "")
        code = getattr(_innermost(function), "__code__", None)
        self.file: str = code.co_filename if code is not None else ""
        self.module: str = Path(self.file).stem if self.__module__ == "__main__" and self.file else self.__module__
        where = f"@task on {self.name}"
        self._compilation = compiled.read(options, where)
        outputs = self._compilation.outputs if self._compilation is not None else 0
        self.signature = TaskSignature(
            function,
            directions_in(options),
            options.get("target_direction"),
            options.get("varargs_type"),
            outputs,
        )
        declared = options.get("returns")
        self.returns = Returns(outputs) if outputs and declared is None else declared_returns(function, declared, where)
        self._takes_returns = "returns" not in self.signature.signature.parameters and self.signature.varkwargs is None
        self.isolation = Isolation(limit_s=time_limit(options, where))
        self.memory_bytes = memory_size(options, f"@task on {self.place}")
        self.on_failure = failure_policy(options, where)
        self.on_memory = memory_policy(options, f"@task on {self.place}")
        self._chunk_size = chunk_size_in(options, where)
        self._reduces = collection_of(self.signature) if self._chunk_size is not None else None
        self._streams_out = tuple(
            [name for name in self.signature.signature.parameters if self.signature.use_of(name).name == "STREAM_OUT"]
        )
        self._called = function if self._compilation is None else None

    @property
    def place(self) -> str:
        """The name with file and line, for messages."""
        code = getattr(self.function, "__code__", None)
        return f"{self.name} ({self.file}:{code.co_firstlineno})" if code is not None else self.name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        program = current_program()
        if self._takes_returns and "returns" in kwargs:
            kwargs, returns = {name: value for name, value in kwargs.items() if name != "returns"}, kwargs["returns"]
        else:
            returns = None
        if (before_call := self.options.get(BEFORE_CALL)) is not None:
            args, kwargs = before_call(self, args, kwargs)
        if program is None:
            if self.launch is not None:
                return self.launch.run(self, args, kwargs)
            return (self._called or self._compiled())(*args, **kwargs)
        if self._remarks is not None:
            self.say()
        returned = self._returns_of(args, kwargs, returns)
        if self._streams_out:
            return self._write_streams(program, args, kwargs, returned)
        return self._submit(program, args, kwargs, returned)

    def _submit(self, program: Program, args: tuple[Any, ...], kwargs: dict[str, Any], returns: Returns) -> Any:
        if self._reduces is not None and returns.count == 1:
            return self._reduced(program, args, kwargs, returns)
        return program.call(self, args, kwargs, returns)

    def _write_streams(self, program: Program, args: tuple[Any, ...], kwargs: dict[str, Any], returns: Returns) -> Any:
        """Submit a call that writes to streams, which expect its end before it can begin."""
        self.signature.check(args, kwargs)
        arguments = self.signature.signature.bind(*args, **kwargs).arguments
        given: list[Any] = [arguments.get(name) for name in self._streams_out]
        with ExitStack() as refused:
            for stream in given:
                if hasattr(stream, "add_writer"):
                    stream.add_writer()
                    refused.callback(stream.remove_writer)
            submitted = self._submit(program, args, kwargs, returns)
            refused.pop_all()
        return submitted

    def _reduced(self, program: Program, args: tuple[Any, ...], kwargs: dict[str, Any], returns: Returns) -> Any:
        """Submit a tree of calls over the collection that the task reduces; return the future of the last one."""
        self.signature.check(args, kwargs)
        bound = self.signature.signature.bind(*args, **kwargs)
        name = self._reduces or ""
        values = bound.arguments.get(name)
        if not isinstance(values, (list, tuple)) or program.is_written(values):
            return program.call(self, args, kwargs, returns)

        def call(chunk: list[object]) -> object:
            bound.arguments[name] = chunk
            return program.call(self, bound.args, bound.kwargs, returns)

        return reduce_in_chunks(call, list(values), self._chunk_size or DEFAULT_CHUNK_SIZE)

    def _returns_of(self, args: tuple[Any, ...], kwargs: dict[str, Any], declared: object) -> Returns:
        """Return the `Returns` of one call; `declared`: its own ``returns=`` keyword."""
        if declared is None and not self.returns.expression:
            return self.returns
        where = f"call of task {self.name}"
        self.signature.check(args, kwargs)
        returns = self.returns if declared is None else declared_returns(self.function, declared, where)
        return returns_of_call(self.function, returns, self.signature.signature, args, kwargs, where)

    @property
    def launch(self) -> Launch | None:
        """How the task runs; None: its function is called."""
        return self.options.get(LAUNCH)

    @property
    def constraints(self) -> Constraints:
        """The processors, memory and the like that a call of the task needs."""
        return self.options.get(CONSTRAINTS) or Constraints()

    def run(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run one call of the task here, to its end."""
        launch = self.launch
        return self.run_function(*args, **kwargs) if launch is None else launch.run(self, args, kwargs)

    def run_function(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the function here, compiled if requested; run a coroutine or a generator to its end."""
        return completed((self._called or self._compiled())(*args, **kwargs), self.name)

    def _compiled(self) -> Callable[..., Any]:
        """Return the function as compiled by numba, once; the function itself if that gives the same result."""
        made = self.function
        if self._compilation is not None:
            try:
                made = self._compilation.made_of(self.function)
            except ModuleNotFoundError as error:
                if error.name != "numba" or not self._compilation.gives_the_same:
                    raise
        self._called = made
        return made

    def declare(self, where: str) -> None:
        """Check the declaration, and warn of surprises in it: now, or when a program runs.

        Raises
        ------
        TaskDeclarationError
            For an asynchronous generator function, and for what numba cannot do.
        """
        refuse_async_generators(self.function, where)
        _, remark = compiled.requested(self.function, self.options, where)
        remarks = [*self._unknown, *without_effect(self.options)]
        if self._chunk_size is not None and self._reduces is None:
            remarks.append(
                f"is_reduce={self.options['is_reduce']!r} has no effect: no parameter is declared as a collection, as "
                "in @task(values=COLLECTION_IN)"
            )
        self._remarks = tuple(remarks if remark is None else [*remarks, remark])
        if current_program() is not None:
            self.say()

    def say(self) -> None:
        """Warn once of options without effect, and of globals that the function changes."""
        remarks, self._remarks = self._remarks or (), None
        for remark in remarks:
            self.warn(f"@task on {self.name}: {remark}{'' if remark.endswith('?') else '.'}")
        for change in global_changes(self.function):
            self.warn(_remark_on(self.name, change), change.line)

    def warn(self, text: str, line: int | None = None) -> None:
        """Warn of something in the function, once; `line`: default its first."""
        code = getattr(_innermost(self.function), "__code__", None)
        names = getattr(_innermost(self.function), "__globals__", {})
        if line is None:
            line = code.co_firstlineno if code is not None else 1
        warnings.warn_explicit(
            text, TaskWarning, self.file or "<task>", line, self.__module__,
            names.setdefault("__warningregistry__", {}),
        )  # fmt: skip

    def with_options(self, **options: Any) -> TaskFunction:
        """Change options after the decoration, as decorators above `@task` do; return this task."""
        self._set(self.function, {**self.options, **options})
        return self

    def prepare(self) -> None:
        """Load what calls need, in a process that is about to run the first of them; here nothing."""

    def made_for(self, data: bytes) -> TaskFunction:
        """Return the task as the record of one call names it, given that call's packed arguments; this one."""
        return self

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<task {self.module}.{self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if find_task(self.__module__, self.__qualname__) is self:
            return find_task, (self.__module__, self.__qualname__)
        return _empty, (), (self.function, self.options), None, None, _restore


def _remark_on(name: str, change: Change) -> str:
    which = "the global" if change.where == "global" else "a variable of the enclosing function:"
    return (
        f"task {name} {change.does} {which} {change.name!r}: the change is visible only in "
        "that call, not to the program or to other tasks. Return the value, or pass it as a parameter with the "
        "direction INOUT."
    )


def _empty() -> TaskFunction:
    return TaskFunction.__new__(TaskFunction)


def _restore(task: TaskFunction, state: tuple[Callable[..., Any], dict[str, Any]]) -> None:
    """Fill a task that was made empty first: its function may refer to the task itself."""
    task._set(*state)


def _innermost(function: Any) -> Any:
    while True:
        if hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif isinstance(function, functools.partial):
            function = function.func
        else:
            return function


def _qualified_name(function: Any) -> str:
    """Return the qualified name of a function, of what a partial calls, or of a callable object's class."""
    while isinstance(function, functools.partial) and not hasattr(function, "__qualname__"):
        function = function.func
    return getattr(function, "__qualname__", type(function).__qualname__)


def find_task(module: str, qualname: str) -> TaskFunction | None:
    """Return the task that an importable module holds under a qualified name, below whatever else decorates it.

    The program itself (``__main__``) is not importable on a worker: None.
    """
    if module == "__main__" or "<locals>" in qualname:
        return None
    if module not in sys.modules:
        __import__(module)
    found: Any = sys.modules[module]
    for part in qualname.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
        if isinstance(found, (staticmethod, classmethod)):
            found = found.__func__
    while found is not None and not isinstance(found, TaskFunction):
        found = getattr(found, "__wrapped__", None)
    return found


def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Declare a function as a task.

    Parameters
    ----------
    returns : int, type, list of types, or str, optional
        What it returns; more than one value gives a list of futures. Absent: taken from the type hint or from the
        ``return`` statements. ``"value_of(n)"`` is evaluated with the arguments of each call. A call may say it too:
        ``f(x, returns=4)``.
    is_reduce, chunk_size : bool, int, optional
        Whether a call becomes a tree of calls, each over `chunk_size` (default 2) elements of the first collection
        parameter, or results of other calls.
    target_direction : direction, optional
        What a method does with ``self``; default INOUT.
    varargs_type : direction, optional
        What it does with ``*args``; default IN.
    time_out : float, optional
        Seconds that a call may take: then its worker process is ended, and waiting for it raises a `TaskTimeoutError`.
        Default: what ``--task_timeout`` says. 0: any time. Counted for each call from when it begins.
    memory : int or str, optional
        Memory that a call may need beyond what its worker has in use already, in bytes or as in ``"2GiB"``. A call
        starts when a node has that much room beside the other calls that say how much they need, or beside all others
        with ``--memory_aware``. More than any worker may use is refused at the call.
    on_failure : str or dict, optional
        What is done about a call that raised, or whose worker died: ``"RETRY"`` tries it up to four times, ``"IGNORE"``
        goes on with None (or what `defaults` says) for its values, ``"CANCEL_SUCCESSORS"`` cancels the calls that need
        it, and waiting for it or them gives None. ``"FAIL"``, and the default: waiting for it raises.
    on_memory : str, optional
        What happens to a call whose worker was killed for its memory: ``"retry_alone"`` runs it once more while nothing
        else of the program runs on its node, ``"retry_larger"`` does so with a larger limit, ``"fail"`` does not run it
        again. Default: what ``--on_memory`` says.
    defaults : dict, optional
        For ``"IGNORE"``: by ``"returns"`` or the name of a parameter that the task writes, what stands for the value.
    numba : bool, str or dict, optional
        Have numba compile the function where it runs, once a worker process: True or ``"jit"``, a dictionary of
        keywords of ``jit``, ``"njit"``, ``"vectorize"``, ``"guvectorize"``, ``"stencil"``, ``"cfunc"``; with
        ``numba_flags`` (dict), ``numba_signature`` and ``numba_declaration``.
    **options
        Every other keyword is the name of a parameter with its direction (default IN), for example ``data=INOUT`` or
        ``path=FILE_OUT``.

    Raises
    ------
    TaskDeclarationError
        At decoration: for a name that is not a parameter, an invalid direction or time, an asynchronous generator
        function, and for what numba cannot do or is not installed for.

    Warns
    -----
    TaskWarning
        While a program runs under runmem, once: for an option without effect, and for a global name or object that the
        function plainly changes, which only that call would see.

    Notes
    -----
    If the task changes a parameter that it should only read, nobody else sees the change; large arrays refuse it. Names
    and meaning are those of PyCOMPSs; options of PyCOMPSs that only say where a task runs have no effect. An
    ``async def`` is run to its end by the worker; without a running program its call gives a coroutine, as in plain
    Python, and `wait_on` runs it.
    """
    if function is not None:
        return _decorate(function, {})
    return functools.partial(_decorate, options=in_snake_case(options))


def only_warns() -> bool:
    """Return True in a program that imports pycompss, and on a worker: what it imports the program has accepted."""
    multiprocessing = sys.modules.get("multiprocessing")
    return "pycompss" in sys.modules or multiprocessing is not None and multiprocessing.parent_process() is not None


def _decorate(function: Any, options: dict[str, Any]) -> Any:
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(_decorate(function.__func__, options))
    if not callable(function):
        raise TaskDeclarationError(f"@task: {function!r} is not a function; name directions as @task(parameter=INOUT).")
    unknown = unknown_options(options, function) if only_warns() else {}
    made = TaskFunction(function, {name: value for name, value in options.items() if name not in unknown})
    made._unknown = tuple(unknown.values())
    made.declare(f"@task on {made.name}")
    return made
