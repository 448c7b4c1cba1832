"""`pycompss.util.exceptions`."""

__all__ = ["PyCOMPSsException", "SerializerException"]


class PyCOMPSsException(Exception):
    """Base of the errors of these modules."""


class SerializerException(PyCOMPSsException):
    """An object that cannot be serialized, or data that hold none."""
