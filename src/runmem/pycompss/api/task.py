"""`pycompss.api.task`."""

from runmem.graph.task import task

Task = task

__all__ = ["task", "Task"]
