"""The settings of a run as options of the command line."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import Field, fields
from typing import Any, TypeVar

import click

from runmem.settings import Settings, option_name

__all__ = ["Decorated", "setting_options"]

Decorated = TypeVar("Decorated", bound=Callable[..., object])


def setting_options(without: Container[str] = ()) -> Callable[[Decorated], Decorated]:
    """Return a decorator that adds options to a command: all settings except those `without`, in their order."""

    def add(function: Decorated) -> Decorated:
        for setting in reversed(fields(Settings)):
            if option_name(setting) not in without:
                function = _option(setting)(function)
        return function

    return add


def _option(setting: Field[Any]) -> Callable[[Decorated], Decorated]:
    entry = setting.metadata
    default = f"  [default: {entry['unset']}]" if entry["unset"] else ""
    return click.option(
        f"--{option_name(setting)}",
        option_name(setting),
        metavar=entry["metavar"],
        type=click.Choice(entry["choices"]) if entry["choices"] else None,
        is_flag=not entry["metavar"] and not entry["choices"],
        default=None,
        help=entry["help"] + default,
    )
