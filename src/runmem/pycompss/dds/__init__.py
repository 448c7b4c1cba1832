"""`pycompss.dds`: distributed data sets."""

from runmem.pycompss.dds.dds import DDS

__all__ = ["DDS"]
