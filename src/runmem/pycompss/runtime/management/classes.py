"""`pycompss.runtime.management.classes`: the class of futures, for ``isinstance``."""

from runmem.graph.future import Future

__all__ = ["Future"]
