"""`pycompss.api.IO`."""

from runmem.commands.needs import io

IO = io

__all__ = ["io", "IO"]
