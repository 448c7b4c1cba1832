"""`pycompss.api.multinode`."""

from runmem.commands.decorators import multinode

MultiNode = multinode
Multinode = multinode

__all__ = ["multinode", "MultiNode", "Multinode"]
