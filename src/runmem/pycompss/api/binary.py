"""`pycompss.api.binary`."""

from runmem.commands.decorators import binary

Binary = binary

__all__ = ["binary", "Binary"]
