"""`pycompss.api.julia`."""

from runmem.commands.decorators import julia

Julia = julia

__all__ = ["julia", "Julia"]
