"""Errors that are also the built-in ones which lsst.verify raises, for code that catches those."""

from __future__ import annotations

from runmem.errors import SettingError

__all__ = ["SpecificationResolutionError", "VerifyFileNotFoundError", "VerifyKeyError", "VerifyTypeError"]


class VerifyTypeError(SettingError, TypeError):
    """A name, a threshold or an item of a set that is of another type or form than expected."""


class VerifyKeyError(SettingError, KeyError):
    """A key that differs from the name of the item that is to be stored under it."""

    __str__ = Exception.__str__  # a KeyError would quote the message


class VerifyFileNotFoundError(SettingError, OSError):
    """A package or folder of definitions that does not exist."""


class SpecificationResolutionError(SettingError):
    """A specification whose name is incomplete, or that inherits from one that does not exist or from itself."""
