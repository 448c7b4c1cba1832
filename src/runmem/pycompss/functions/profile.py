"""`pycompss.functions.profile`."""

from runmem.memory.profile import profile

Profile = profile

__all__ = ["profile", "Profile"]
