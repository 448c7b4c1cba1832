"""Reads the metadata of all quanta in a repository, in parallel as tasks.

A Butler takes more than a millisecond for one set of metadata. So the program asks it only where the files are; the
tasks read those that are plain JSON, and ask a Butler of their own for all others.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from lsst.daf.butler import Butler, CollectionType, MissingCollectionError, MissingDatasetTypeError
from lsst.resources import ResourcePath

from runmem.errors import SettingError
from runmem.execution.session import session
from runmem.graph.synchronise import wait_on
from runmem.graph.task import task
from runmem.metrics.quantum_usage import QuantumUsage, quantum_usage
from runmem.metrics.usage_summary import TaskUsage
from runmem.pipe_base.butler import ButlerError
from runmem.pipe_base.errors import MetricComputationError
from runmem.pipe_base.metadata import TaskMetadata
from runmem.reading import read_file

__all__ = ["MetadataRepository"]

_SUFFIX = "_metadata"
_STORAGE_CLASSES = ("TaskMetadata", "PropertySet", "PropertyList")
_BATCH = 1_000  # quanta of a task: about 0.1 s
_MOST_WAITING = 64  # tasks
_READ_HERE = 5_000  # so many quanta are read before a cluster would have started

Progress = Callable[[int, int], None]


class _Batch(NamedTuple):
    """Quanta of one task: the path of the metadata of each, or None, and its identifier in the registry."""

    label: str
    paths: list[str | None]
    ids: list[str]


class MetadataRepository:
    """The metadata of tasks in collections of a repository.

    Parameters
    ----------
    uri : str
        Repository: a folder, a file ``butler.yaml``, or a name that LSST's software is set up to know.
    collections : sequence of str
        Names or patterns of collections. Each quantum in their runs counts, also one that a later run repeats.
    tasks : sequence of str
        Labels of tasks, or patterns; empty for all.

    Raises
    ------
    ButlerError
        If there is no such repository or collection, or it cannot be read.
    SettingError
        If the collections have no metadata, or none of one of `tasks`.
    """

    def __init__(self, uri: str, collections: Sequence[str], tasks: Sequence[str] = ()) -> None:
        self.uri = uri
        self.ignored: list[str] = []
        """Dataset types with such a name that are no task metadata, in words."""
        with _as_butler_error(f"the repository {uri} cannot be opened"):
            self.butler = Butler.from_config(uri, writeable=False)
        with _as_butler_error(f"the repository {uri} cannot be read"):
            self.runs = self._runs(collections)
            self._types = self._chosen(tasks)

    @property
    def labels(self) -> list[str]:
        """Labels of the tasks that are read, in alphabetical order."""
        return [name.removesuffix(_SUFFIX) for name in self._types]

    def count(self) -> int:
        """Return the number of quanta. Raises `ButlerError`."""
        with _as_butler_error(f"the repository {self.uri} cannot be read"), self.butler.query() as query:
            return sum(
                query.datasets(name, runs, find_first=False).count(exact=False, discard=True)
                for name, runs in self._types.items()
            )

    def read(self, progress: Progress | None = None, workers: int | None = None) -> list[TaskUsage]:
        """Return memory and time of the quanta of each task.

        Parameters
        ----------
        progress : callable, optional
            Gets the number of quanta that were read, and of all.
        workers : int, optional
            Processes to read with; default one for each core, and none for a few thousand quanta.

        Raises
        ------
        ButlerError
            If the registry cannot be read. Damaged metadata are counted, not raised.
        """
        found = {label: TaskUsage(label) for label in self.labels}
        total, done = self.count(), 0
        waiting: deque[tuple[str, Any]] = deque()
        with ExitStack() as stack:
            parallel = workers is not None or total > _READ_HERE
            if parallel:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="runmem-report-"))
                stack.enter_context(session("report", run_folder=folder, workers=workers))
            read = _read_usage if parallel else read_usage
            for batch in self._batches():
                waiting.append((batch.label, read(self.uri, self.runs, batch.paths, batch.ids)))
                while len(waiting) > (_MOST_WAITING if parallel else 0):
                    done += _take(waiting, found)
                    if progress is not None:
                        progress(done, total)
            while waiting:
                done += _take(waiting, found)
                if progress is not None:
                    progress(done, total)
        return list(found.values())

    def _batches(self) -> Iterator[_Batch]:
        seen: set[object] | None = set() if self._may_repeat else None
        with _as_butler_error(f"the repository {self.uri} cannot be read"), self.butler.query() as query:
            for name, runs in self._types.items():
                refs = iter(query.datasets(name, runs, find_first=False))
                while batch := list(islice(refs, _BATCH)):
                    if seen is not None:
                        batch = [ref for ref in {ref.id: ref for ref in batch}.values() if ref.id not in seen]
                        seen.update(ref.id for ref in batch)
                    uris = self.butler.get_many_uris(batch, allow_missing=True)
                    paths = [_plain_path(uris.get(ref)) for ref in batch]
                    yield _Batch(name.removesuffix(_SUFFIX), paths, [ref.id.hex for ref in batch])

    def _runs(self, collections: Sequence[str]) -> list[str]:
        """Return the runs and tagged collections in `collections`."""
        if not collections:
            raise SettingError(f"name the collections to read; in {self.uri} there are {self._known_collections()}")
        try:
            kinds = {CollectionType.RUN, CollectionType.TAGGED}
            infos = self.butler.collections.query_info(list(collections), collection_types=kinds, flatten_chains=True)
        except MissingCollectionError as error:
            wanted = ", ".join(collections)
            raise ButlerError(
                f"no such collection: {wanted} ({error}) In {self.uri} there are {self._known_collections()}"
            ) from error
        self._may_repeat = any(info.type is CollectionType.TAGGED for info in infos)
        return list(dict.fromkeys(info.name for info in infos))

    def _known_collections(self) -> str:
        known = sorted(self.butler.collections.query("*"))
        more = f" and {len(known) - 20} more" if len(known) > 20 else ""
        return (", ".join(known[:20]) or "none") + more

    def _chosen(self, tasks: Sequence[str]) -> dict[str, list[str]]:
        """Return the dataset types to read, each with the runs that have it."""
        there: dict[str, list[str]] = {}
        infos = self.butler.collections.query_info(self.runs, include_summary=True) if self.runs else []
        for info in infos:
            for name in info.dataset_types or ():
                if name.endswith(_SUFFIX):
                    there.setdefault(name, []).append(info.name)
        found = {name: there[name] for name in sorted(there) if self._is_task_metadata(name)}
        labels = {name: name.removesuffix(_SUFFIX) for name in found}
        if not found:
            raise SettingError(f"{', '.join(self.runs) or 'the collections'}: there are no metadata of tasks in them")
        for pattern in tasks:
            if not any(fnmatchcase(label, pattern) for label in labels.values()):
                raise SettingError(
                    f"there are no metadata of a task {pattern!r}; there are those of {', '.join(labels.values())}"
                )
        return {
            name: runs
            for name, runs in found.items()
            if not tasks or any(fnmatchcase(labels[name], pattern) for pattern in tasks)
        }

    def _is_task_metadata(self, name: str) -> bool:
        try:
            kind = self.butler.get_dataset_type(name).storageClass_name
        except MissingDatasetTypeError:
            return False
        if kind not in _STORAGE_CLASSES:
            self.ignored.append(f"{name} is not read: its storage class is {kind}, not TaskMetadata")
        return kind in _STORAGE_CLASSES


def _take(waiting: deque[tuple[str, Any]], found: dict[str, TaskUsage]) -> int:
    """Add the first of the batches that wait; return the number of its quanta."""
    label, usages = waiting.popleft()
    read: list[QuantumUsage | str] = wait_on(usages)
    found[label].add(read)
    return len(read)


def _plain_path(uris: Any) -> str | None:
    """Return the path of a JSON file on this machine, None for anything else."""
    uri: ResourcePath | None = None if uris is None or uris.componentURIs else uris.primaryURI
    if uri is None or not uri.isLocal or uri.fragment or uri.getExtension() != ".json":
        return None
    return str(uri.ospath)


def read_usage(
    uri: str, collections: Sequence[str], paths: Sequence[str | None], ids: Sequence[str]
) -> list[QuantumUsage | str]:
    """Return memory and time of quanta, or what is wrong with their metadata."""
    return [_usage_of(uri, tuple(collections), *one) for one in zip(paths, ids, strict=True)]


_read_usage = task(returns=1)(read_usage)


def _usage_of(uri: str, collections: tuple[str, ...], path: str | None, dataset_id: str) -> QuantumUsage | str:
    if path is not None:
        try:
            return quantum_usage(TaskMetadata.from_json(read_file(path)))
        except MetricComputationError as error:
            return f"{path}: {error}"
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass  # not a file as LSST's packages write it: the Butler says what is wrong
    place = path or f"dataset {dataset_id}"
    try:
        butler = _own_butler(uri, collections)
        ref = butler.get_dataset(dataset_id)
        place = path or f"{ref.datasetType.name} {ref.dataId}"
        return quantum_usage(TaskMetadata.from_metadata(butler.get(ref, storageClass="TaskMetadata")))
    except Exception as error:  # of any type: from files, stores and databases
        return f"{place}: {type(error).__name__}: {error}"


@lru_cache(maxsize=1)
def _own_butler(uri: str, collections: tuple[str, ...]) -> Butler:
    return Butler.from_config(uri, collections=collections, writeable=False)


@contextmanager
def _as_butler_error(what: str) -> Iterator[None]:
    """Raise errors of any type, from configurations, databases and file systems, as `ButlerError`."""
    try:
        yield
    except (ButlerError, SettingError):
        raise
    except Exception as error:
        raise ButlerError(f"{what}: {type(error).__name__}: {error}") from error
