"""Gives an object the contents of another one, so that all who refer to it see them."""

from __future__ import annotations

__all__ = ["copy_contents"]


def copy_contents(target: object, source: object) -> None:
    """Make `target` equal to `source`, an object of the same type.

    Raises
    ------
    TypeError
        For an object that cannot be changed in place.
    """
    if target is source:
        return
    if type(target) is not type(source):
        raise TypeError(f"a {type(target).__name__} cannot become a {type(source).__name__}")
    if isinstance(target, (list, bytearray)):
        target[:] = source  # type: ignore[call-overload]
    elif isinstance(target, (dict, set)):
        target.clear()
        target.update(source)  # type: ignore[arg-type, call-overload]
    elif hasattr(target, "__array_interface__") and target.shape == source.shape:  # type: ignore[attr-defined]
        target[...] = source  # type: ignore[index]
    elif hasattr(target, "__dict__"):
        vars(target).clear()
        vars(target).update(vars(source))
    else:
        raise TypeError(f"a {type(target).__name__} cannot be changed in place")
