"""A cluster of a user whose workers are measured."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, NamedTuple

import distributed
from distributed import NannyPlugin, WorkerPlugin

from runmem.collection.remote_nodes import RemoteNodes
from runmem.deadlines import within
from runmem.errors import ClusterError
from runmem.measurement.carrier import nanny_carrier, scheduler_plugin, worker_carrier
from runmem.measurement.second_tries import SecondTries
from runmem.worker.dask_tasks import LONGEST_KEY, DaskTasks
from runmem.worker.nanny import RunmemNanny
from runmem.worker.run_on_workers import RunOnWorkers, stats_topic
from runmem.worker.task_turns import DEATHS

__all__ = ["MeasuredCluster", "address_of"]

_JOIN_S = 60.0  # a worker imports runmem meanwhile
_LEAVE_S = 10.0
_REPORT_S = 5.0
_MOST_NAMED = 3


class _Report(NamedTuple):
    """The report of a worker that was asked to join."""

    joined: str
    refusal: str | None
    version: str | None
    host: str
    pid: int
    python: str
    threads: int


class MeasuredCluster(RemoteNodes):
    """The workers of a user's cluster that take part in a measurement; nothing else there is changed.

    Parameters
    ----------
    client : distributed.Client
        Connected to the cluster, and not asynchronous.
    run : RunOnWorkers
    program_pid : int
        Process id of the program.
    version : str
        That of runmem here.
    on_memory : str or None
        What is done about tasks that were killed for memory, see `MemoryPolicy`; None: what Dask does.
    """

    def __init__(
        self,
        client: distributed.Client,
        run: RunOnWorkers,
        program_pid: int,
        version: str,
        on_memory: str | None = None,
    ) -> None:
        super().__init__(client, run.run_id, run.interval_s)
        self._topic = stats_topic(run.run_id)
        self._version = version
        self._of_nannies = RunmemNanny(run.run_id, host=run.host)
        self._of_workers = DaskTasks(run, program_pid)
        self._asked: list[NannyPlugin | WorkerPlugin] = []  # plugins that the scheduler was asked to add
        self._reports: dict[str, _Report] = {}
        self._tries = None if on_memory is None else SecondTries(f"runmem-second-tries-{run.run_id}", DEATHS)

    def join(self) -> None:
        """Begin to measure on all workers, and on those that come later.

        Raises
        ------
        ClusterError
            If the scheduler refuses, or does not answer.
        """
        try:
            within(_LEAVE_S, self._client.subscribe_topic, self._topic, self._take)
            if self._tries is not None:
                within(_JOIN_S, self._client.register_plugin, scheduler_plugin(self._tries))
            self._asked = [self._of_nannies]
            within(_JOIN_S, self._client.register_plugin, nanny_carrier(self._of_nannies, self._topic, self._version))
            self._asked = [self._of_workers, self._of_nannies]
            within(_JOIN_S, self._client.register_plugin, worker_carrier(self._of_workers, self._topic, self._version))
        except TimeoutError as error:
            self.losses["workers that do not answer"] = f"what runs there may not be measured ({error})"
        except Exception as error:
            self.leave()
            # Without an answer, which is what there is for an operation that a scheduler does not have.
            reason = "its scheduler has switched them off" if isinstance(error, AttributeError) else str(error)
            raise ClusterError(
                f"the cluster at {address_of(self._client)} takes no plugins ({reason}). Start "
                "its workers with `dask worker --preload runmem.preload`, which needs none."
            ) from error

    def wait_for_reports(self, seconds: float = _REPORT_S) -> None:
        """Wait until each present worker has reported whether it is measured.

        Raises
        ------
        ClusterError
            If there are workers and none of them can be measured.
        """
        deadline = time.monotonic() + seconds
        present = super()._scheduler_workers()
        while present.keys() - self._reports.keys() and time.monotonic() < deadline:
            time.sleep(0.01)
            present = super()._scheduler_workers()
        if present and all(each in self._reports and self._reports[each].refusal for each in present):
            reasons = list(self.refusals().values())
            more = f"; and {len(reasons) - _MOST_NAMED:,} more" if len(reasons) > _MOST_NAMED else ""
            named = "; ".join(reasons[:_MOST_NAMED])
            raise ClusterError(f"no worker of the cluster can be measured: {named}{more}.")

    def refusals(self) -> dict[str, str]:
        """Return the workers that are not measured, with reason and remedy."""
        found = {}
        for report in self._reports.values():
            if report.refusal is not None:
                place = f"worker {report.joined}"
                found[place] = f"process {report.pid} on {report.host} is not measured: {report.refusal}"
                if report.version != self._version:
                    install = f"{report.python} -m pip install runmem=={self._version}"
                    found[place] += f". Install it there with `{install}` and restart the worker"
        return found

    @property
    def several_threads(self) -> bool:
        """Whether a worker that is measured runs several tasks at a time."""
        return any(report.threads > 1 for report in self._reports.values() if report.refusal is None)

    def _scheduler_workers(self) -> dict[str, dict[str, Any]]:
        """Return the workers that are measured: others know nothing of runmem."""
        found = super()._scheduler_workers()
        measured = {address for address, report in list(self._reports.items()) if report.refusal is None}
        return {address: worker for address, worker in found.items() if address in measured}

    def _take(self, event: tuple[float, dict[str, Any]]) -> None:
        """Handle the report of a worker or a nanny; called in the client's event loop."""
        message = event[1]
        if "joined" in message:
            self._reports[message["joined"]] = _Report(*(message[name] for name in _Report._fields))
        else:
            self.reported(message)

    def use(self, client: distributed.Client) -> None:
        """Use another client of the same cluster from now on: the first is closed."""
        self._client = client

    def unreached(self) -> dict[str, str]:
        """Return the nodes that could not be read to the end; this host's spool is read in any case."""
        found = super().unreached()
        if not self._nodes:
            found.pop("the cluster", None)
        return found

    def leave(self) -> None:
        """Leave the cluster as it was."""
        self.remove_plugins(self._asked, _LEAVE_S)
        if self._tries is not None:
            with suppress(Exception):
                within(_LEAVE_S, self._client.log_event, self._tries.name, {})
                within(_LEAVE_S, self._client.unregister_scheduler_plugin, self._tries.name)

    def give_up(self, key: str, error: bytes) -> None:
        """Have a task fail whose worker has died: its key as in records, the pickled exception."""
        assert self._tries is not None
        message = {"key": key, "longest": LONGEST_KEY, "error": error}
        within(_LEAVE_S, self._client.log_event, self._tries.name, message)

    def unsubscribe(self) -> None:
        """Take no more reports."""
        with suppress(Exception):
            within(_LEAVE_S, self._client.unsubscribe_topic, self._topic)


def address_of(client: distributed.Client) -> str:
    """Return the address of a client's scheduler, as far as known."""
    return str(getattr(client.scheduler, "address", None) or "an unknown address")
