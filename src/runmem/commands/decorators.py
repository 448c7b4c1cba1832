"""The decorators above `@task` that say what runs: a command, MPI processes, a container. The names are PyCOMPSs's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from runmem.commands.above_task import Decorator, Options, above_task, warn_above_task
from runmem.commands.call_arguments import Count, checked_template, declared_count
from runmem.commands.command import Command, CommandLine, CompssCommand, DecafCommand, ExitPolicy, MpiRunner
from runmem.commands.containers import ENGINES, Container
from runmem.commands.elsewhere import FunctionElsewhere, layouts_of
from runmem.commands.http_request import HttpRequest
from runmem.commands.launch import Nodes, Step, TaskLaunch
from runmem.errors import TaskDeclarationError
from runmem.graph.task import LAUNCH, TaskFunction

__all__ = [
    "binary", "compss", "container", "decaf", "epilog", "http", "julia", "mpi", "mpmd_mpi", "multinode", "ompss",
    "opencl", "prolog",
]  # fmt: skip

_COMMAND = ("args", "params", "working_dir", "fail_by_exit_value")
_NODES = ("computing_nodes", "processes_per_node")


def _change_launch(task: TaskFunction, **fields: object) -> None:
    launch = task.launch if isinstance(task.launch, TaskLaunch) else TaskLaunch()
    task.with_options(**{LAUNCH: replace(launch, **fields)})  # type: ignore[arg-type]


def _exit_policy(value: object, where: str, default: str = "true") -> ExitPolicy:
    if value is None:
        return ExitPolicy(default)
    text = str(value).strip()
    if text.lower() in ("true", "false", "0", "1") or text.startswith("$"):
        return ExitPolicy(text)
    raise TaskDeclarationError(
        f"{where}: fail_by_exit_value={value!r} is neither True nor False nor an environment variable."
    )


def _text(task: TaskFunction, options: Options, name: str, where: str) -> str | None:
    return checked_template(task, options.get(name), f"{where}: {name}")


def _arguments(task: TaskFunction, options: Options, where: str) -> str | None:
    """Return the template of a command's arguments; ``params`` is its former name."""
    name = "args" if options.get("args") is not None else "params"
    return _text(task, options, name, where)


def _common(task: TaskFunction, options: Options, where: str) -> Options:
    """Return the fields that all commands have."""
    return {
        "working_dir": _text(task, options, "working_dir", where),
        "exit_policy": _exit_policy(options.get("fail_by_exit_value"), where),
    }


def _count(task: TaskFunction, options: Options, names: Iterable[str], where: str) -> Count:
    """Return the number that the first of these keywords gives; 1 without them."""
    for name in names:
        if options.get(name) is not None:
            return declared_count(task, options[name], f"{where}: {name}")
    return Count("1")


def _program(task: TaskFunction, options: Options, where: str, name: str = "binary") -> CommandLine:
    return CommandLine(_text(task, options, name, where) or "", _arguments(task, options, where))


def binary(**options: object) -> Decorator:
    """Run a program in place of the function: ``@binary(binary="grep")`` above `@task`.

    Parameters
    ----------
    binary : str
        Name or path.
    args : str, optional
        Its arguments, with parameters of the task as ``{{name}}``; without it all parameters, in their order. Files are
        given as paths, those that are declared as standard streams take their place.
    working_dir : str, optional
        Folder that it runs in; may have ``{{name}}`` and ``${VARIABLE}``.
    fail_by_exit_value : bool or str, optional
        Whether an exit value other than 0 is an error (default); else the task returns it.
    engine, image : str, optional
        See `container`.

    Raises
    ------
    TaskDeclarationError
        For a template that names no parameter, and below `@task`.
    """
    return above_task("binary", options, (*_COMMAND, "engine", "image"), ["binary"], _set_binary)


def _set_binary(task: TaskFunction, options: Options, where: str) -> None:
    _change_launch(task, body=Command((_program(task, options, where),), **_common(task, options, where)))
    if options.get("engine") and options.get("image"):
        _set_container(task, {"engine": options["engine"], "image": options["image"]}, where)


def ompss(**options: object) -> Decorator:
    """Run a program of OmpSs in place of the function; see `binary`."""
    return above_task("ompss", options, (*_COMMAND, "engine", "image"), ["binary"], _set_binary)


def opencl(**options: object) -> Decorator:
    """Run the program ``kernel`` in place of the function; see `binary`."""

    def change(task: TaskFunction, given: Options, where: str) -> None:
        _change_launch(task, body=Command((_program(task, given, where, "kernel"),), **_common(task, given, where)))

    return above_task("opencl", options, _COMMAND, ["kernel"], change)


def mpi(**options: object) -> Decorator:
    """Run a program, or the function itself, in the processes of an MPI.

    Parameters
    ----------
    runner : str
        The program that starts them, such as ``mpirun``.
    binary, args, working_dir, fail_by_exit_value
        See `binary`. Without ``binary`` each process runs the function, and the task returns a list of their values.
    processes : int or str, optional
        How many; may be an environment variable, or an expression over parameters and globals. Default 1.
    flags : str, optional
        Further arguments of the runner.
    scale_by_cu : bool, optional
        Whether there are as many times the processes as computing units (see `constraint`).
    processes_per_node
        No effect: a call runs on one node.
    name_layout : dict, optional
        For the collection ``name``, which of its items each process gets: ``{block_count: 4, block_length: 2,
        stride: 1}``.
    """
    names = (*_COMMAND, *_NODES, "binary", "processes", "flags", "scale_by_cu")
    return above_task("mpi", options, names, ["runner"], _set_mpi)


def _set_mpi(task: TaskFunction, options: Options, where: str) -> None:
    processes = _count(task, options, ("processes", "computing_nodes"), where)
    runner = MpiRunner(
        _text(task, options, "runner", where) or "",
        _text(task, options, "flags", where) or "",
        str(options.get("scale_by_cu", False)),
    )
    common = _common(task, options, where)
    if options.get("binary") is None:
        try:
            layouts = tuple(layouts_of(options))
        except (TypeError, ValueError) as error:
            raise TaskDeclarationError(
                f"{where}: a layout has block_count, block_length and stride ({error})."
            ) from None
        _change_launch(task, body=FunctionElsewhere(runner, processes, common["working_dir"], layouts))
    else:
        program = replace(_program(task, options, where), processes=processes)
        _change_launch(task, body=Command((program,), runner, **common))


def mpmd_mpi(**options: object) -> Decorator:
    """Run several programs as one MPI: ``programs=[dict(binary=, args=, processes=), ...]``.

    The other keywords are those of `mpi`. A program gets the arguments that its ``args`` says.
    """
    names = ("working_dir", "fail_by_exit_value", "processes_per_node", "flags")
    return above_task("mpmd_mpi", options, names, ["runner", "programs"], _set_mpmd_mpi)


def _set_mpmd_mpi(task: TaskFunction, options: Options, where: str) -> None:
    programs = []
    for given in options["programs"]:
        if not isinstance(given, Mapping) or not given.get("binary"):
            raise TaskDeclarationError(f"{where}: programs= has {given!r}, which is not a dictionary with a binary.")
        program = _program(task, dict(given), where)
        processes = _count(task, dict(given), ("processes",), where)
        programs.append(replace(program, args=program.args or "", processes=processes))
    if not programs:
        raise TaskDeclarationError(f"{where}: programs= is empty.")
    runner = MpiRunner(_text(task, options, "runner", where) or "", _text(task, options, "flags", where) or "")
    _change_launch(task, body=Command(tuple(programs), runner, **_common(task, options, where)))


def decaf(**options: object) -> Decorator:
    """Run a Decaf workflow in place of the function: ``df_script``, then the ``df_executor`` that it has made."""
    names = (*_COMMAND, *_NODES, "runner", "df_executor", "df_lib")
    return above_task("decaf", options, names, ["df_script"], _set_decaf)


def _set_decaf(task: TaskFunction, options: Options, where: str) -> None:
    body = DecafCommand(
        _text(task, options, "df_script", where) or "",
        _text(task, options, "df_executor", where) or "executor.sh",
        _arguments(task, options, where),
        _count(task, options, ("computing_nodes",), where),
        **_common(task, options, where),
    )
    _change_launch(task, body=body)


def julia(**options: object) -> Decorator:
    """Run a script of Julia in place of the function: ``script``, by ``executor`` (default ``julia``); see `binary`."""
    return above_task("julia", options, (*_COMMAND, "executor", "computing_nodes"), ["script"], _set_julia)


def _set_julia(task: TaskFunction, options: Options, where: str) -> None:
    script = _text(task, options, "script", where) or ""
    executor = _text(task, options, "executor", where) or "julia"
    program = CommandLine(executor, _arguments(task, options, where), (script,))
    _change_launch(task, body=Command((program,), **_common(task, options, where)))


def compss(**options: object) -> Decorator:
    """Run another program of tasks, ``app_name``, in place of the function.

    By the command ``runcompss`` with its ``flags`` where that is there, else by runmem. See `binary` for the others.
    """
    names = (*_COMMAND, *_NODES, "runcompss", "flags", "worker_in_master")
    return above_task("compss", options, names, ["app_name"], _set_compss)


def _set_compss(task: TaskFunction, options: Options, where: str) -> None:
    body = CompssCommand(
        _text(task, options, "app_name", where) or "",
        _text(task, options, "runcompss", where) or "runcompss",
        _text(task, options, "flags", where) or "",
        _arguments(task, options, where),
        **_common(task, options, where),
    )
    _change_launch(task, body=body)


def http(**options: object) -> Decorator:
    """Send a request to an HTTP service in place of the function.

    Parameters
    ----------
    service_name : str
        The service; the environment variable ``RUNMEM_HTTP_<NAME>`` has its address. Or an address.
    request : str
        Its method, such as ``"GET"``.
    resource : str
        What follows the address, with parameters as ``{{name}}``.
    payload, payload_type : str, optional
        The body and its type; default ``application/json``.
    produces, updates : str, optional
        Which values of a JSON response the task returns (``{{return_0}}``), and to which keys of a dictionary among its
        arguments they go (``"{{event}}.key = {{name}}"``).
    """
    names = ("payload", "payload_type", "produces", "updates")
    return above_task("http", options, names, ["service_name", "request", "resource"], _set_http)


def _set_http(task: TaskFunction, options: Options, where: str) -> None:
    body = HttpRequest(
        str(options["service_name"]),
        str(options["request"]).upper(),
        _text(task, options, "resource", where) or "",
        _text(task, options, "payload", where),
        str(options.get("payload_type") or "application/json"),
        options.get("produces"),
        options.get("updates"),
    )
    _change_launch(task, body=body)


def container(**options: object) -> Decorator:
    """Run a task in a container: its function, or the command that another decorator gives it.

    Parameters
    ----------
    engine : str
        ``DOCKER``, ``PODMAN``, ``SINGULARITY``, ``APPTAINER`` or ``UDOCKER``.
    image : str
    options : str, optional
        Further arguments of the engine.
    """
    names = ("options", "binary", *_COMMAND)
    return above_task("container", options, names, ["engine", "image"], _set_container)


def _set_container(task: TaskFunction, options: Options, where: str) -> None:
    engine = str(options["engine"])
    if "$" not in engine and engine.upper() not in ENGINES:
        raise TaskDeclarationError(f"{where}: engine={engine!r} is none of {', '.join(ENGINES)}.")
    _change_launch(task, container=Container(engine, str(options["image"]), str(options.get("options") or "")))
    if options.get("binary") is not None:
        _set_binary(task, {name: value for name, value in options.items() if name not in ("engine", "image")}, where)


def prolog(**options: object) -> Decorator:
    """Run a program before the task: ``binary``, with ``args``; by default the task fails if it does."""
    return _step("prolog", options, "true")


def epilog(**options: object) -> Decorator:
    """Run a program after the task: ``binary``, with ``args``; by default the task does not fail if it does."""
    return _step("epilog", options, "false")


def _step(name: str, options: Options, default: str) -> Decorator:
    def change(task: TaskFunction, given: Options, where: str) -> None:
        program = _program(task, given, where)
        policy = _exit_policy(given.get("fail_by_exit_value"), where, default)
        _change_launch(task, **{name: Step(replace(program, args=program.args or ""), policy)})

    return above_task(name, options, _COMMAND, ["binary"], change)


def multinode(**options: object) -> Decorator:
    """Set environment variables with the nodes and processes of the task; here a call runs on one node."""
    return above_task("multinode", options, _NODES, [], _set_multinode)


def _set_multinode(task: TaskFunction, options: Options, where: str) -> None:
    nodes = str(options.get("computing_nodes", 1)).strip()
    if nodes.isdecimal() and int(nodes) > 1:
        warn_above_task(task, f"{where}: computing_nodes={nodes} has no effect: a call runs on one node")
    _change_launch(task, nodes=Nodes(_count(task, options, ("processes_per_node",), where)))
