"""`pycompss.api.prolog`."""

from runmem.commands.decorators import prolog

Prolog = prolog

__all__ = ["prolog", "Prolog"]
