"""`runmem run --measure-only`: a Dask program as it is, measured."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import distributed
from dask.callbacks import Callback

from runmem.cli.program import Module, Script, exit_code_of, run_program
from runmem.cli.summarise import summarise_run
from runmem.cli.termination import Terminated, raise_on_signals
from runmem.dashboard.memory_warnings import MemoryWarnings
from runmem.errors import SettingError
from runmem.execution.signals import ignore_signals
from runmem.measurement.every_client import EveryClient, of_every_client
from runmem.measurement.measurement import Measurement, measurement_settings
from runmem.standard_error import say
from runmem.start_signals import restore_python_signals

__all__ = ["run_measured"]

_USED = ("memory_interval", "memory_metric", "run_folder", "spool_size", "observers", "on_memory")
_ALLOWED = (*_USED, "python_memory_profile", "log_level")


class _TasksHere(Callback):  # type: ignore[misc]
    """Counts the tasks that Dask runs in the program's own process, with its threads, for instance."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def _pretask(self, key: object, dask: object, state: object) -> None:
        self.count += 1


def run_measured(
    program: Script | Module, arguments: Sequence[str], options: Mapping[str, Any], no_summary: bool
) -> None:
    """Run a program, measure all clusters of Dask to which it connects, and exit with its exit code.

    Raises
    ------
    SettingError
        For an option about workers or tasks, which are the program's own here.
    """
    if given := [name for name, value in options.items() if value not in (None, False, ()) and name not in _ALLOWED]:
        raise SettingError(
            f"--{given[0]} cannot be used with --measure-only: the program makes its own cluster. The options are "
            f"{', '.join('--' + name for name in _USED)}."
        )
    settings = measurement_settings({name: options.get(name) for name in _USED})

    def make(client: distributed.Client) -> Measurement:
        return Measurement(client, program.name, settings, [MemoryWarnings()])

    every = EveryClient(make, lambda text: say(f"runmem: {text}"))
    master = os.getpid()
    restore_python_signals()
    with raise_on_signals(), _TasksHere() as here, of_every_client(every):
        try:
            code = run_program(program, arguments, full_tracebacks=True).exit_code
            if os.getpid() != master:  # a forked child has reached the end of the program
                os._exit(code)
        except (Terminated, KeyboardInterrupt) as request:
            code = exit_code_of(request)
        every.stop(code)
    ignore_signals()
    _report(every, here.count, no_summary)
    sys.exit(code)


def _report(every: EveryClient, here: int, no_summary: bool) -> None:
    for measurement in every.measurements if not no_summary else ():
        summarise_run(measurement.directory.root)
    if here:
        tasks = f"{here:,} Dask task{'s were' if here != 1 else ' was'} not measured"
        say(
            f"runmem: {tasks}, because the program ran {'it' if here == 1 else 'them'} in its own process. With a "
            "client of dask.distributed they run in workers: `from distributed import Client; "
            "Client(threads_per_worker=1)`."
        )
    elif not every.measurements:
        say("runmem: the program has made no client of dask.distributed, and run no Dask task: nothing was measured.")
