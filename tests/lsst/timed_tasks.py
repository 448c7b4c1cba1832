"""LSST tasks whose timed methods touch a known amount of memory."""

from __future__ import annotations

import mmap

import lsst.pex.config
import lsst.pipe.base
from lsst.utils.timer import timeMethod

MIB = 1024**2


def touch(mebibytes):
    """Hold this much memory for a moment; all of it is given back to the system."""
    with mmap.mmap(-1, mebibytes * MIB) as area:
        for place in range(0, len(area), 4096):
            area[place] = 1


class TouchTask(lsst.pipe.base.Task):
    ConfigClass = lsst.pex.config.Config
    _DefaultName = "touch"

    @timeMethod
    def run(self, mebibytes):
        touch(mebibytes)

    @timeMethod
    def outer(self, before, inside):
        touch(before)
        self.run(inside)

    @timeMethod
    def fails(self, mebibytes):
        touch(mebibytes)
        raise RuntimeError("after touching")


def items(task, method):
    """Return the peak less the resident size at the start of each call of `method`, in MiB, and the peaks."""
    start = task.metadata.getArray(f"{method}StartMaxResidentSetSize")
    end = task.metadata.getArray(f"{method}EndMaxResidentSetSize")
    return [(e - s) / MIB for s, e in zip(start, end, strict=True)], [e / MIB for e in end]
