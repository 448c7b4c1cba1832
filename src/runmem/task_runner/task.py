"""The base of tasks: a name, a configuration, a log, metadata, and subtasks with the same."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from runmem.pipe_base.config import Config
from runmem.pipe_base.metadata import TaskMetadata
from runmem.task_runner.errors import ConfigError, TaskError

__all__ = ["Task", "TaskError"]


class Task:
    """A unit of work with a configuration; subclasses add methods, ``run`` by custom.

    Parameters
    ----------
    config : Config, optional
        Ours or one of ``lsst.pex.config``; default ``ConfigClass()``.
    name : str, optional
        Default ``_DefaultName``; a subtask must be given one.
    parentTask : Task, optional
        The task whose subtask this is.
    log : logging.Logger, optional
        The task logs to the child of it that has the task's name; without a parent and a log, to its own name's.

    Attributes
    ----------
    log, config, metadata
        Logger, configuration, and `runmem.pipe_base.metadata.TaskMetadata` of this task alone.
    ConfigClass, _DefaultName
        Set by subclasses.
    """

    ConfigClass: ClassVar[Any] = Config
    _DefaultName: ClassVar[str]

    def __init__(
        self,
        config: Any = None,
        name: str | None = None,
        parentTask: Task | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        self.config: Any
        self.log: logging.Logger
        self.metadata = TaskMetadata()
        self._parentTask = parentTask
        if parentTask is not None:
            if name is None:
                raise TaskError(f"{type(self).__name__}: a subtask needs a name.")
            self._name = name
            self._fullName = parentTask._computeFullName(name)
            config = config if config is not None else getattr(parentTask.config, name)
            self._taskDict: dict[str, Task] = parentTask._taskDict
            log = parentTask.log.getChild(name) if log is None else log.getChild(name)
        else:
            name = name or getattr(self, "_DefaultName", None)
            if name is None:
                raise TaskError(f"{type(self).__name__} has no _DefaultName: set one, or give the task a name.")
            self._name = self._fullName = name
            config = config if config is not None else self.ConfigClass()
            self._taskDict = {}
            log = logging.getLogger(name) if log is None or isinstance(log, logging.RootLogger) else log
        self.config = config
        self.log = log
        self._taskDict[self._fullName] = self
        if hasattr(config, "validate"):
            try:
                config.validate()
            except ConfigError as error:
                raise ConfigError(f"task {self._fullName}: {error}") from error

    def getName(self) -> str:
        """Return the name of this task alone."""
        return self._name

    def getFullName(self) -> str:
        """Return the name with those of the parents before it: ``top.sub``."""
        return self._fullName

    def getTaskDict(self) -> dict[str, Task]:
        """Return the top task and all its subtasks by full name."""
        return dict(self._taskDict)

    def emptyMetadata(self) -> None:
        """Empty the metadata of the top task and of all its subtasks."""
        for task in self._taskDict.values():
            task.metadata = TaskMetadata()

    def getFullMetadata(self) -> TaskMetadata:
        """Return the metadata of all tasks, each under its full name with colons for dots."""
        found = TaskMetadata()
        for name, task in self._taskDict.items():
            found[name.replace(".", ":")] = task.metadata
        return found

    def getSchemaCatalogs(self) -> dict[str, Any]:
        """Return the schema of each dataset that this task writes, by dataset name; override.

        A value has ``getSchema()``, or is the schema itself, in types of JSON.
        """
        return {}

    def getAllSchemaCatalogs(self) -> dict[str, Any]:
        """Return those of the top task and of all its subtasks."""
        return {name: schema for task in self._taskDict.values() for name, schema in task.getSchemaCatalogs().items()}

    def makeSubtask(self, name: str, TaskClass: type[Task] | None = None, **keyArgs: Any) -> None:
        """Make a subtask and set it as the attribute `name`.

        Parameters
        ----------
        name : str
            Also the field of the configuration that holds the subtask's.
        TaskClass : type, optional
            Default: what the configuration's field makes (``lsst.pex.config.ConfigurableField``).
        """
        field: Any = getattr(self.config, name, None)
        if TaskClass is None and hasattr(field, "apply"):
            subtask = field.apply(name=name, parentTask=self, **keyArgs)
        elif TaskClass is not None:
            config = field if field is not None else TaskClass.ConfigClass()
            subtask = TaskClass(config=config, name=name, parentTask=self, **keyArgs)
        else:
            raise TaskError(f"subtask {name} of {self._fullName}: give its class, makeSubtask({name!r}, TaskClass).")
        setattr(self, name, subtask)

    def _computeFullName(self, name: str) -> str:
        return f"{self._fullName}.{name}"
