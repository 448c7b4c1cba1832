"""Splits classes of the program into the arguments that make an equal class, and its contents."""

from __future__ import annotations

import abc
import enum
import types
from collections.abc import Callable

from runmem.serialization.outline import make_class, make_enumeration

__all__ = ["PICKLE_S_OWN", "class_contents", "created_class"]

PICKLE_S_OWN = "__slotnames__"
"""Attribute that `pickle` adds to a class when it pickles an object of it for the first time."""

_MADE_ANEW = (PICKLE_S_OWN, "__dict__", "__weakref__", "__slots__", "__annotate_func__", "__annotations_cache__")
_SET_AT_CREATION = ("__class__", "__name__")
"""Attributes with another meaning in a class that exists already: its metaclass, its name."""

_ENUM_OWN = ("_generate_next_value_", "_member_names_", "_member_map_", "_member_type_", "_value2member_map_",
             "_unhashable_values_", "_hashable_values_", "_unhashable_values_map_", "_use_args_", "_new_member_",
             "_value_repr_", "_flag_mask_", "_singles_mask_", "_all_bits_", "_boundary_", "_inverted_")  # fmt: skip
_MEMBER_OWN = ("_value_", "_name_", "__objclass__", "_sort_order_", "_inverted_")


def created_class(cls: type, number: int) -> tuple[object, ...]:
    """Return the function and arguments that make an empty class with the same name, bases and slots."""
    # `NamedTuple` is no class, and has done its work; others need what was written, such as `Generic[T]`.
    bases = cls.__bases__ if issubclass(cls, tuple) else vars(cls).get("__orig_bases__", cls.__bases__)
    if issubclass(cls, enum.Enum):
        members = {name: member._value_ for name, member in cls.__members__.items()}
        return make_enumeration, (number, cls.__bases__, cls.__name__, cls.__qualname__, members, cls.__module__)
    given: dict[str, object] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    if "__slots__" in vars(cls):
        given["__slots__"] = _slots(cls)
    given |= {name: vars(cls)[name] for name in _SET_AT_CREATION if name in vars(cls)}
    return make_class, (number, type(cls), cls.__name__, bases, given)


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls)["__slots__"]
    return (slots,) if isinstance(slots, str) else tuple(slots)


def class_contents(
    cls: type, is_code: Callable[[object], bool]
) -> tuple[dict[str, object], dict[str, object], tuple[str, ...]]:
    """Return the code of a class, its data by name, and the names that show whether it has changed.

    Names with two underscores on both sides belong to Python and its libraries: they are part of the code.
    """
    own = dict(vars(cls))
    for name in (*_MADE_ANEW, *_SET_AT_CREATION):
        own.pop(name, None)
    if "__slots__" in vars(cls):
        for name in [name for name, value in own.items() if isinstance(value, types.MemberDescriptorType)]:
            del own[name]
    filling: dict[str, object] = {}
    if isinstance(cls, abc.ABCMeta) and own.pop("_abc_impl", None) is not None:
        filling["registered"] = [found for reference in abc._get_dump(cls)[0] if (found := reference()) is not None]  # type: ignore[attr-defined]
    if issubclass(cls, enum.Enum):
        for name in [*_ENUM_OWN, *cls.__members__]:
            own.pop(name, None)
        filling["members"] = {
            name: {key: value for key, value in vars(member).items() if key not in _MEMBER_OWN}
            for name, member in cls.__members__.items()
        }
    data = {name: value for name, value in own.items() if not (_is_special(name) or is_code(value))}
    filling["attributes"] = {name: value for name, value in own.items() if name not in data}
    return filling, data, tuple(name for name in vars(cls) if name != PICKLE_S_OWN)


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
