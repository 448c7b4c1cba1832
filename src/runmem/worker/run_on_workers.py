"""What the workers must know of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from runmem.clusters.child_imports import MainModule
from runmem.shadowed import Shadowing

if TYPE_CHECKING:  # a process without Dask has no such thing
    from runmem.worker.nesting import Nesting

__all__ = ["RunOnWorkers", "stats_topic"]


def stats_topic(run_id: str) -> str:
    """Return the Dask topic on which workers report to the master."""
    return f"runmem-{run_id}"


class RunOnWorkers(NamedTuple):
    """What the workers must know of a run.

    Attributes
    ----------
    run_id : str
    app : str
        Name of the program, for the traces.
    host, spool : str
        Host name and spool folder of the master. Workers on its host share its spool, whatever their TMPDIR is.
    measures : bool
        Whether memory is measured.
    interval_s : float
        Seconds between two readings of the sampler.
    malloc_trim : bool
    profile_peak : bool
        Whether `@profile` measures the peaks of lines where the decorator does not say.
    memray : tuple of str
        Names of the tasks whose allocations are recorded.
    import_paths : tuple of str
        Folders from which the program imports.
    workers_a_node : int
        Roughly; shares out the brackets of a node's trace.
    prepare : tuple of str
        Functions without arguments, as ``module:function``, that a worker calls first (import aliases).
    quiet : bool
        Whether the workers' own log of failed tasks is kept off the terminal: the error reaches the program anyway.
    folder : str
        The program's, from which records name its files.
    probes : bytes
        Pickle of those of the user: classes, objects, or names as ``module:Class``; empty: none.
    main : MainModule
        The program, for processes that a task spawns on a worker of the embedded cluster.
    shadowing : Shadowing or None
        Modules of the program that have the names of libraries, if it has some.
    metric : str
        What the sampler reads: ``rss``, ``pss`` or ``uss``.
    nesting : Nesting or None
        Makes the calls of tasks that tasks make; None: these are plain calls.
    on_memory : str or None
        What is done about Dask tasks that were killed for memory, in a measurement; None: what Dask does.
    memory_aware : bool
        Whether workers report how much memory calls need.
    """

    run_id: str
    app: str
    host: str
    spool: str
    measures: bool
    interval_s: float
    malloc_trim: bool = False
    profile_peak: bool = False
    memray: tuple[str, ...] = ()
    import_paths: tuple[str, ...] = ()
    workers_a_node: int = 1
    prepare: tuple[str, ...] = ()
    quiet: bool = False
    main: MainModule = MainModule()
    probes: bytes = b""
    folder: str = ""
    shadowing: Shadowing | None = None
    nesting: Nesting | None = None
    on_memory: str | None = None
    metric: str = "rss"
    memory_aware: bool = False
