"""Command-line tasks and `TaskRunner`, which runs them on many targets: the names of ``lsst.pipe.base``."""

from __future__ import annotations

from runmem.pipe_base.config import Config, ConfigField, Field
from runmem.pipe_base.struct import Struct
from runmem.task_runner.argument_parser import ArgumentParser
from runmem.task_runner.cmd_line_task import CmdLineTask
from runmem.task_runner.data_ids import DataIdContainer, DataRef
from runmem.task_runner.dataset_types import ConfigDatasetType, DatasetArgument
from runmem.task_runner.errors import (
    ConfigError,
    RunTimeoutError,
    TargetError,
    TargetKilledError,
    TargetTimeoutError,
    TaskError,
)
from runmem.task_runner.failures import TargetFailure
from runmem.task_runner.implicit_threading import disableImplicitThreading
from runmem.task_runner.runner import ButlerInitializedTaskRunner, LegacyTaskRunner, TaskRunner
from runmem.task_runner.task import Task

__all__ = [
    "ArgumentParser",
    "ButlerInitializedTaskRunner",
    "CmdLineTask",
    "Config",
    "ConfigDatasetType",
    "ConfigError",
    "ConfigField",
    "DataIdContainer",
    "DataRef",
    "DatasetArgument",
    "Field",
    "LegacyTaskRunner",
    "RunTimeoutError",
    "Struct",
    "TargetError",
    "TargetFailure",
    "TargetKilledError",
    "TargetTimeoutError",
    "Task",
    "TaskError",
    "TaskRunner",
    "disableImplicitThreading",
]
