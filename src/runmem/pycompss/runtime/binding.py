"""`pycompss.runtime.binding`: where PyCOMPSs 2 has the class of futures."""

from runmem.graph.future import Future

__all__ = ["Future"]
