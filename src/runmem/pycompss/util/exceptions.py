"""`pycompss.util.exceptions`."""

__all__ = ["PyCOMPSsException", "SerializerException"]


class PyCOMPSsException(Exception):
    """Base class of the errors of `pycompss.util`."""


class SerializerException(PyCOMPSsException):
    """An object cannot be serialized, or the data are not those of an object."""
