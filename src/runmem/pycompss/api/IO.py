"""`pycompss.api.IO`."""

from runmem.commands.decorators import io

IO = io

__all__ = ["io", "IO"]
