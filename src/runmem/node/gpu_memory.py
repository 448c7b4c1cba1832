"""Read the memory of NVIDIA's GPUs, of each device and of each process on it, through NVML.

Loaded by the sampler where ``nvidia-ml-py`` (the extra ``gpu``) is installed. Standard library only besides that, and
without the package: see `runmem.node`.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Sized(Protocol):
        """The memory of a device."""

        used: int

    class Running(Protocol):
        """A process on a device; its memory is None if the driver does not know it."""

        pid: int
        usedGpuMemory: int | None  # noqa: N815  # NVML's name

    class Library(Protocol):
        """The part of the module ``pynvml`` that is used here."""

        NVMLError: type[Exception]
        NVMLError_LibraryNotFound: type[Exception]

        def nvmlInit(self) -> object: ...  # noqa: N802
        def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802
        def nvmlDeviceGetHandleByIndex(self, index: int) -> object: ...  # noqa: N802
        def nvmlDeviceGetMemoryInfo(self, handle: object) -> Sized: ...  # noqa: N802
        def nvmlDeviceGetComputeRunningProcesses(self, handle: object) -> list[Running]: ...  # noqa: N802


__all__ = ["GpuMemory", "GpuReading"]

_SHARE = 0.01  # of the time, for reading: a device takes some milliseconds


class GpuReading:
    """One reading of all devices.

    Attributes
    ----------
    devices : dict
        ``gpu<index>`` to its used bytes, those of other users too.
    processes : dict
        Process id to its bytes on all devices; None if the driver does not know them.
    """

    __slots__ = ("devices", "processes")

    def __init__(self) -> None:
        self.devices: dict[str, int] = {}
        self.processes: dict[int, int | None] = {}


class GpuMemory:
    """Read all devices, as often as a hundredth of the time allows.

    Assumption: the driver names processes by the ids that they have here. Limitation: in a container with process ids
    of its own it may not, and then no process is found.

    Parameters
    ----------
    library : Library
        The module ``pynvml``.

    Raises
    ------
    OSError
        If the devices cannot be used; without a message where there is no driver.
    """

    def __init__(self, library: Library, share: float = _SHARE) -> None:
        self._library = library
        self._share = share
        self._due = 0.0
        try:
            library.nvmlInit()
            count = library.nvmlDeviceGetCount()
            self._handles = {f"gpu{index}": library.nvmlDeviceGetHandleByIndex(index) for index in range(count)}
        except library.NVMLError_LibraryNotFound:
            raise OSError from None
        except library.NVMLError as error:
            raise OSError(f"the memory of GPUs cannot be read: {error}") from None

    def read(self) -> GpuReading | None:
        """Return a reading, None if it is too early for one. A device that does not answer is missing in it."""
        began = time.perf_counter()
        if began < self._due or not self._handles:
            return None
        reading = GpuReading()
        for name, handle in self._handles.items():
            try:
                reading.devices[name] = self._library.nvmlDeviceGetMemoryInfo(handle).used
                running = self._library.nvmlDeviceGetComputeRunningProcesses(handle)
            except self._library.NVMLError:
                continue
            for process in running:
                before, now = reading.processes.get(process.pid, 0), process.usedGpuMemory
                reading.processes[process.pid] = None if before is None or now is None else before + now
        ended = time.perf_counter()
        self._due = ended + (ended - began) / self._share
        return reading
