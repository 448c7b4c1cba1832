"""`runcompss`: the command line of COMPSs, translated into that of `runmem run`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import NamedTuple

import click

from runmem.cli import main as run_main
from runmem.settings import LOG_LEVELS, Settings, option_name
from runmem.standard_error import as_sentence, say

__all__ = ["CompssCommandLine", "main", "translated"]

_USAGE = """Usage: runcompss [OPTIONS] PROGRAM [ARGUMENTS]...

  Run a PyCOMPSs program with its ARGUMENTS on runmem, as `runmem run` does. Options as of COMPSs:

    -d, --debug, --log_level=LEVEL     off, info or debug; api means info, trace means debug
    -g, --graph[=true|false]           write complete_graph.dot; an SVG too where graphviz is installed
    --summary                          a table of the tasks at the end
    --python_memory_profile            measure memory
    --pythonpath=FOLDERS               folders to import from
    --env_script=FILE                  shell script to source before the program and its workers start
    --python_interpreter=PATH          interpreter on other hosts
    --log_dir=DIR                      links to the run go to DIR/.COMPSs/<program>_<NN>; default: ~/.COMPSs
    --wall_clock_limit=SECONDS         end the run when it takes longer
    --nested[=true|false]              send calls of tasks inside tasks to the workers too
    --project=FILE, --resources=FILE   XML files with the names, cores and memory of the nodes

  Every option of `runmem run` is understood too, such as --workers=4. Those that
  follow, with their dashes, are accepted and have no effect:
"""

_WITHOUT_EFFECT_TEXT = """
    PyObject_serialize agent_config appdir checkpoint checkpoint_folder checkpoint_params classpath comm conn coverage
    cpu_affinity custom_threads delete_trace_packages ear enable_external_adaptation extrae_config_file
    extrae_config_file_python fpga_affinity fpga_reprogram generate_trace gpu_affinity input_profile io_executors
    jmx_port jvm_master_opts jvm_workers_opts lang library_path master_name master_port master_working_dir
    output_profile persistent_worker_c python_cache_profiler python_mpi_worker python_propagate_virtual_environment
    python_worker_cache reuse_resources_on_block scheduler_config_file shutdown_in_node_failure specific_log_dir
    storage_conf storage_impl streaming streaming_master_name streaming_master_port task_count task_execution
    trace_label tracing_task_dependencies uuid"""
_FLAGS_WITHOUT_EFFECT_TEXT = """
    data_provenance external_debugger gen_coredump keep_workingdir monitoring provenance tracing"""
_WITHOUT_EFFECT = frozenset(_WITHOUT_EFFECT_TEXT.split())
_FLAGS_WITHOUT_EFFECT = frozenset(
    _FLAGS_WITHOUT_EFFECT_TEXT.split()
)  # a value of theirs follows an equals sign, if there is one
_SHORT_WITHOUT_EFFECT = {"t": "tracing", "m": "monitoring", "p": "provenance"}
_FLAGS = {"debug", "summary", "python_memory_profile", "no_summary", "graph"}
_WITH_VALUE = {"scheduler", "log_dir", "base_log_dir"}
_PASSED_ON = {"pythonpath", "env_script", "python_interpreter", "project", "resources"}
_LOG_LEVELS = {"api": "info", "trace": "debug", **{level: level for level in LOG_LEVELS}}


class CompssCommandLine(NamedTuple):
    """A command line of `runcompss` in the words of `runmem`.

    Attributes
    ----------
    arguments : list of str
        Those of `runmem`, from ``run`` on.
    ignored : list of str
        The options that have no effect.
    """

    arguments: list[str]
    ignored: list[str]


def translated(words: Sequence[str]) -> CompssCommandLine:
    """Translate the arguments of `runcompss`.

    Raises
    ------
    UsageError
        For an option that neither COMPSs nor `runmem run` has, with the nearest one, and for a missing program.
    """
    options: list[str] = []
    ignored: list[str] = []
    log_dir = "~"
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if not word.startswith("--"):
            for letter in word[1:]:
                _add_short(letter, word, options, ignored)
            continue
        name, has_value, value = word[2:].partition("=")
        if not has_value and (name in _WITHOUT_EFFECT or name in _WITH_VALUE):
            value = _value(name, rest)
        if name in _WITHOUT_EFFECT or name in _FLAGS_WITHOUT_EFFECT or name == "scheduler" and ":" not in value:
            ignored.append(f"--{name}")
        elif name == "scheduler":
            options.append(f"--scheduler={value}")
        elif name in ("log_dir", "base_log_dir"):
            log_dir = value
        else:
            options += _meant(name, value if has_value else None, rest)
    if not rest:
        raise click.UsageError("no program: give the path of a Python file")
    options += ["--compss_folder", os.path.join(log_dir, ".COMPSs")]
    return CompssCommandLine(["run", *options, *rest], list(dict.fromkeys(ignored)))


def _add_short(letter: str, word: str, options: list[str], ignored: list[str]) -> None:
    if letter in _SHORT_WITHOUT_EFFECT:
        ignored.append(f"-{letter}")
    elif letter in ("d", "g"):
        options.append(f"-{letter}")
    else:
        raise click.UsageError(f"no such option: -{letter} (in {word}); runcompss -h lists the options")


def _meant(name: str, value: str | None, rest: list[str]) -> Iterator[str]:
    """Yield the words of `runmem run` for an option that has an effect."""
    settings = {option_name(setting): setting for setting in fields(Settings)}
    if name == "log_level":
        level = (_value(name, rest) if value is None else value).lower()
        if level not in _LOG_LEVELS:
            raise click.UsageError(f"--log_level: {level!r} is not one of {', '.join(_LOG_LEVELS)}")
        yield f"--log_level={_LOG_LEVELS[level]}"
    elif name in _FLAGS or name in settings and not _takes_value(settings[name].metadata):
        if _is_on(name, value):
            yield f"--{name}"
    elif name == "wall_clock_limit":
        seconds = _value(name, rest) if value is None else value
        if seconds.strip() != "0":  # no limit
            yield f"--{name}={seconds}"
    elif name in _PASSED_ON or name in settings:
        yield f"--{name}={_value(name, rest) if value is None else value}"
    else:
        known = [
            *_FLAGS,
            *_PASSED_ON,
            *settings,
            *_WITHOUT_EFFECT,
            *_FLAGS_WITHOUT_EFFECT,
            "log_level",
            "log_dir",
            "base_log_dir",
        ]
        near = get_close_matches(name, known, 1)
        hint = f"did you mean --{near[0]}?" if near else "runcompss -h lists the options"
        raise click.UsageError(f"no such option: --{name}; {hint}")


def _takes_value(metadata: object) -> bool:
    return bool(metadata["metavar"] or metadata["choices"])  # type: ignore[index]


def _is_on(name: str, value: str | None) -> bool:
    if value is None or value.lower() in ("true", "1"):
        return True
    if value.lower() in ("false", "0"):
        return False
    raise click.UsageError(f"--{name}: {value!r} is neither true nor false")


def _value(name: str, rest: list[str]) -> str:
    """Return the value of an option from the words after it."""
    if not rest:
        raise click.UsageError(f"option --{name} requires an argument")
    return rest.pop(0)


def main() -> None:
    """Run a command line of COMPSs and exit: with the program's exit code, or 2 for what cannot be run."""
    words = sys.argv[1:]
    first = words[0] if words else "-h"
    if first in ("-h", "--help", "--opts"):
        print(f"{_USAGE}{_WITHOUT_EFFECT_TEXT}{_FLAGS_WITHOUT_EFFECT_TEXT}")
        return
    if first in ("-v", "--version"):
        run_main(["--version"])
    try:
        line = translated(words)
    except click.UsageError as error:
        say(f"runcompss: error: {as_sentence(error.format_message())}")
        sys.exit(2)
    if line.ignored:
        say(f"runcompss: note: without effect here: {', '.join(line.ignored)}")
    run_main(line.arguments)
