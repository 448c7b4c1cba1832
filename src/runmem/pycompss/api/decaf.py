"""`pycompss.api.decaf`."""

from runmem.commands.decorators import decaf

Decaf = decaf

__all__ = ["decaf", "Decaf"]
