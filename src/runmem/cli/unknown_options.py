"""Says what to write in place of an option that does not exist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import click

__all__ = ["unknown_option"]

_OPTIONS_OF_SBATCH = {
    "--nodes": "--num_nodes", "-N": "--num_nodes",
    "--time": "--exec_time", "-t": "--exec_time",
    "--job-name": "--job_name", "-J": "--job_name",
    "--partition": "--queue", "-p": "--queue",
    "--account": "--project_name", "-A": "--project_name",
    "--constraint": "--constraints", "-C": "--constraints",
    "--dependency": "--job_dependency", "-d": "--job_dependency",
    "--chdir": "--job_execution_dir", "-D": "--job_execution_dir",
    "--cpus-per-task": "--workers_per_node", "-c": "--workers_per_node",
    "--mem": "--node_memory",
}  # fmt: skip
"""Options of sbatch, and those of `runmem submit` that set them."""


def unknown_option(error: click.NoSuchOption, words: Sequence[str], others: Iterable[click.Command]) -> str:
    """Return the message for an option that a command does not have, with the one that was probably meant.

    Parameters
    ----------
    error : click.NoSuchOption
    words : sequence of str
        The command line.
    others : iterable of click.Command
        Commands to look for the option in, if the one that was called has no similar one.
    """
    name = error.option_name
    command = error.ctx.command if error.ctx is not None else None
    options = _options(command) if command is not None else []
    for word in words:  # `-workers`: the parser takes it for the short options -w, -o, ...
        whole = word.partition("=")[0]
        if not name.startswith("--") and whole.startswith(name) and f"-{whole}" in options:
            return f"No such option {whole!r}. Write it with two dashes: '-{whole}'."
    said = f"No such option {name!r}."
    if command is not None and command.name == "submit":
        if name in _OPTIONS_OF_SBATCH:
            return f"{said} It is an option of sbatch; that of `runmem submit` is {_OPTIONS_OF_SBATCH[name]!r}."
        said += f" Options of sbatch that runmem does not have are given by --extra_submit_flag={name}=..."
    plain = {_plain(option): option for option in options}
    if close := get_close_matches(_plain(name), plain, n=1, cutoff=0.75):
        return f"No such option {name!r}. Did you mean {plain[close[0]]!r}?"
    for other in others:
        if name in _options(other):
            return f"No such option {name!r} here: it is an option of `runmem {other.name}`."
    return said


def _options(command: click.Command) -> list[str]:
    return [name for parameter in command.params if isinstance(parameter, click.Option) for name in parameter.opts]


def _plain(option: str) -> str:
    """Return the name of an option without what is often mistaken: dashes, underscores and capital letters."""
    return option.lower().replace("-", "").replace("_", "")
