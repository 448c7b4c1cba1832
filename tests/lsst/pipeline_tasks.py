"""A small pipeline of real PipelineTasks: scale a number of each detector, then add up those of a visit."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import lsst.pex.config as pex_config
import lsst.pipe.base as pipe_base
from lsst.pipe.base import connectionTypes
from lsst.utils.timer import timeMethod
from timed_tasks import touch


class ScaleConnections(pipe_base.PipelineTaskConnections, dimensions=("instrument", "visit", "detector")):
    number = connectionTypes.Input(
        name="number", storageClass="StructuredDataDict", dimensions=("instrument", "visit", "detector"), doc="in"
    )
    scaled = connectionTypes.Output(
        name="scaled", storageClass="StructuredDataDict", dimensions=("instrument", "visit", "detector"), doc="out"
    )


class ScaleConfig(pipe_base.PipelineTaskConfig, pipelineConnections=ScaleConnections):
    factor = pex_config.Field(dtype=float, default=2.0, doc="what numbers are multiplied with")
    failing = pex_config.ListField(dtype=int, default=[], doc="detectors whose quanta raise")
    killed = pex_config.ListField(dtype=int, default=[], doc="detectors whose process is killed")
    exiting = pex_config.ListField(dtype=int, default=[], doc="detectors whose quanta call sys.exit")
    hanging = pex_config.ListField(dtype=int, default=[], doc="detectors whose quanta never end")
    meeting = pex_config.Field(dtype=str, default="", doc="file that hanging quanta make and failing ones wait for")


class ScaleTask(pipe_base.PipelineTask):
    ConfigClass = ScaleConfig
    _DefaultName = "scale"

    def runQuantum(self, butlerQC, inputRefs, outputRefs):
        detector = butlerQC.quantum.dataId["detector"]
        number = butlerQC.get(inputRefs.number)
        self.metadata["detector"] = detector
        butlerQC.put(self.run(number, detector).scaled, outputRefs.scaled)

    @timeMethod
    def run(self, number, detector):
        touch(number["mebibytes"])
        meeting = Path(self.config.meeting) if self.config.meeting else None
        if detector in self.config.failing:
            while meeting is not None and not meeting.exists():
                time.sleep(0.01)
            raise ValueError(f"detector {detector} is broken")
        if detector in self.config.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        if detector in self.config.hanging:
            if meeting is not None:
                meeting.touch()
            threading.Event().wait()
        if detector in self.config.exiting:
            raise SystemExit(3)
        return pipe_base.Struct(scaled={"value": number["value"] * self.config.factor})


class AddConnections(pipe_base.PipelineTaskConnections, dimensions=("instrument", "visit")):
    scaled = connectionTypes.Input(
        name="scaled", storageClass="StructuredDataDict", dimensions=("instrument", "visit", "detector"),
        multiple=True, doc="in",
    )  # fmt: skip
    total = connectionTypes.Output(
        name="total", storageClass="StructuredDataDict", dimensions=("instrument", "visit"), doc="out"
    )


class AddConfig(pipe_base.PipelineTaskConfig, pipelineConnections=AddConnections):
    pass


class AddTask(pipe_base.PipelineTask):
    ConfigClass = AddConfig
    _DefaultName = "add"

    @timeMethod
    def run(self, scaled):
        return pipe_base.Struct(total={"value": sum(part["value"] for part in scaled)})
