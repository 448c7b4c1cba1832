"""State of a call on its way to Dask, and the bundle of calls with which it travels."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import NamedTuple

import distributed

from runmem.collection.process_deaths import Kill
from runmem.execution.placement import Demand
from runmem.graph.call import Execution, FileUse, Slot
from runmem.graph.failure import OnFailure
from runmem.serialization.arguments import NO_PAYLOAD, Payload
from runmem.settings import ON_MEMORY
from runmem.store.layout import safe_name
from runmem.worker.packed_call import PackedTask

__all__ = ["KEY_MARK", "Bundle", "CallState", "Implementation", "state_of"]

# Dask splits a key at its last dash if hexadecimal digits follow. Counting is many times quicker than asking the kernel
# for random bytes, during which another thread takes the interpreter.
_PROCESS = "0" + uuid.uuid4().hex[:15]
KEY_MARK = f"-{_PROCESS}"
"""Part of the keys of all Dask tasks of this process."""
_numbers = count(1)


class Implementation(NamedTuple):
    """Another task that a call may run in place of its own.

    Attributes
    ----------
    task : PackedTask
    demand : Demand
        What its `@constraint` asks for.
    """

    task: PackedTask
    demand: Demand


@dataclass(slots=True, eq=False)
class CallState:
    """State of an execution in the submitter.

    Attributes
    ----------
    number : int
        Position in the order of the program, see `CallQueue`.
    turn : int
        Rank among the calls that can run, lowest first, see `set_turn`.
    is_needed : bool
        Whether another call needs its result.
    task : PackedTask or None
        None for a value, and once the call has ended.
    payload : Payload
        The packed arguments.
    after : tuple of Execution
        Executions that must end before, without their values.
    last_read : tuple of int
        Indexes of the inputs that nothing else reads, now or later, see `DaskSubmitter`.
    is_single : bool
        Whether the call must not share a bundle, because another call of its last bundle was killed or failed.
    value, has_value
        A value that the program sends (a large argument), and True; there is no call then.
    classes : frozenset of int
        Definitions of the program that the results may refer to.
    definitions
        Keeps these definitions alive.
    bundle, position
        The bundle with which it was sent and its position there (None: it is the only call); None while it waits.
    error
        The exception with which it ended.
    done : bool
        Whether it has ended, with or without an error.
    demand : Demand or None
        What the task declares, by `@constraint` or ``memory=``.
    place : str
        The task's name with file and line, if it has a demand.
    is_placed : bool
        Whether it has a place on a node.
    implementations : tuple of Implementation
        Tasks that do the same, as long as none was chosen.
    on_failure : OnFailure or None
    returns : int
        Number of returned values.
    tries : int
        How often it has run, or is running.
    on_memory : str
        What is done if its worker is killed for memory, see `runmem.settings.ON_MEMORY`.
    attempts : int or None
        See `Isolation.attempts`.
    deaths, memory_deaths : int
        How many workers have died while it ran, or may have run; how many of them for memory.
    kill : Kill or None
        What was known of the last of them.
    runs_alone : bool
        Whether it is to run alone on its node.
    runs_larger : bool
        Whether its worker may use the memory of the node meanwhile.
    workers : tuple of str
        Addresses of the workers of which one is to run it, as long as there is one of them; empty: any worker.
    keeps_files, never_ran
        See `ExecutionState`.
    """

    number: int = 0
    turn: int = 0
    is_needed: bool = False
    task: PackedTask | None = None
    payload: Payload = NO_PAYLOAD
    after: tuple[Execution, ...] = ()
    writes: tuple[Slot, ...] = ()
    files: tuple[FileUse, ...] = ()
    last_read: tuple[int, ...] = ()
    is_single: bool = False
    value: object = None
    has_value: bool = False
    classes: frozenset[int] = frozenset()
    definitions: object = None
    bundle: Bundle | None = None
    position: int | None = None
    error: BaseException | None = None
    done: bool = False
    demand: Demand | None = None
    place: str = ""
    is_placed: bool = False
    implementations: tuple[Implementation, ...] = ()
    on_failure: OnFailure | None = None
    returns: int = 0
    tries: int = 1
    on_memory: str = ON_MEMORY[0]
    attempts: int | None = None
    deaths: int = 0
    memory_deaths: int = 0
    kill: Kill | None = None
    runs_alone: bool = False
    runs_larger: bool = False
    workers: tuple[str, ...] = ()
    keeps_files: bool = False
    never_ran: bool = False

    @property
    def needs(self) -> list[Execution]:
        """The executions that must end before."""
        return [version.execution for version in self.payload.inputs] + list(self.after)

    def set_turn(self) -> None:
        """Set `turn`, once `number` is set: the order of the program, but directly after the call whose result it uses.

        So results are used before more are made, as far as no other call needs them.
        """
        needed = [state for execution in self.needs if not (state := state_of(execution)).has_value]
        is_first = bool(needed) and not any(state.is_needed for state in needed)
        self.turn = max(state.turn for state in needed) if is_first else self.number
        for state in needed:
            state.is_needed = True

    def use(self, chosen: Implementation) -> None:
        """Run another implementation of the task, from now on."""
        self.task, self.demand, self.implementations = *chosen, ()

    def release_inputs(self) -> None:
        """Release everything that only a run of the call needs."""
        self.task, self.payload, self.after, self.value = None, NO_PAYLOAD, (), None


def state_of(execution: Execution) -> CallState:
    """Return the state of an execution of a Dask submitter."""
    state = execution.state
    assert type(state) is CallState
    return state


@dataclass(slots=True, eq=False)
class Bundle:
    """Executions that run one after the other in one Dask task.

    Attributes
    ----------
    key : str
        Key of the Dask task; the Dask dashboard shows the part before the last dash.
    executions : list of Execution
        Those that have not ended. Each refers to the bundle, so others would keep all results of the bundle alive.
    future : distributed.Future or None
        None until the bundle is sent.
    values : dict or None
        Results that were fetched together with those of other calls of the bundle, by position.
    """

    key: str
    executions: list[Execution] = field(default_factory=list)
    future: distributed.Future | None = None
    values: dict[int, object] | None = None

    @property
    def turn(self) -> int:
        """The lowest `CallState.turn` of its calls."""
        return min((state_of(execution).turn for execution in self.executions), default=0)

    @classmethod
    def named(cls, name: str) -> Bundle:
        """Return an empty bundle whose Dask task has this name."""
        return cls(f"{_label(name)}-{_PROCESS}{next(_numbers):016x}")


@lru_cache(maxsize=1024)
def _label(name: str) -> str:
    return safe_name(name)
