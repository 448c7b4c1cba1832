"""The settings of a run as options of the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any, TypeVar

import click

from runmem.settings import Settings, option_name

__all__ = ["setting_options"]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def setting_options(wanted: Callable[[Field[Any]], bool] = lambda setting: True) -> Callable[[Decorated], Decorated]:
    """Return what adds the options of settings to a command, in the order of `Settings`.

    Parameters
    ----------
    wanted : callable
        Tells which settings; default: all.
    """

    def add(function: Decorated) -> Decorated:
        for setting in reversed([setting for setting in fields(Settings) if wanted(setting)]):
            function = _option(setting)(function)
        return function

    return add


def _option(setting: Field[Any]) -> Callable[[Decorated], Decorated]:
    told = setting.metadata
    unset = f"  [default: {told['unset']}]" if told["unset"] else ""
    return click.option(
        f"--{option_name(setting)}",
        option_name(setting),
        metavar=told["metavar"],
        type=click.Choice(told["choices"]) if told["choices"] else None,
        is_flag=not told["metavar"] and not told["choices"],
        default=None,
        help=told["help"] + unset,
    )
