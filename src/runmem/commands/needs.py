"""The decorators above `@task` that say what a task needs before a call: room, another task, changed arguments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from runmem.commands.above_task import Decorator, Options, above_task
from runmem.commands.transformations import TransformationsBefore, transformation_of
from runmem.errors import TaskDeclarationError
from runmem.graph.constraints import CONSTRAINTS, NAMES, declared_constraints
from runmem.graph.implementations import declare_implementation
from runmem.graph.task import BEFORE_CALL, TaskFunction

__all__ = ["constraint", "data_transformation", "implement", "io"]


def constraint(**options: object) -> Decorator:
    """Declare what a call of the task needs.

    Parameters
    ----------
    computing_units : int or str, optional
        Processor cores: a number, an environment variable, or an expression over parameters and globals.
    memory_size : float or str, optional
        Memory in GB; the same forms.
    processors : list of dict, optional
        ``[{"processorType": "CPU", "computingUnits": "2"}, {"processorType": "GPU", ...}]``.
    **options
        The other constraints of PyCOMPSs, such as ``app_software``, are kept as text.

    Raises
    ------
    TaskDeclarationError
        For a value that is not a number.
    """

    def change(task: TaskFunction, given: Options, where: str) -> None:
        task.with_options(**{CONSTRAINTS: declared_constraints(given, task.constraints, where)})

    return above_task("constraint", options, NAMES, [], change)


def io(function: object = None) -> Any:
    """Declare that the task reads or writes files mostly: it needs no processor core for itself."""

    def change(task: TaskFunction, given: Options, where: str) -> None:
        task.with_options(**{CONSTRAINTS: replace(task.constraints, computing_units=0)})

    decorate = above_task("IO", {}, [], [], change)
    return decorate if function is None else decorate(function)


def implement(**options: object) -> Decorator:
    """Declare that the task does the same as another one: a call of that one runs the first whose constraints fit.

    Parameters
    ----------
    source_class : str
        The module of the other task, and its class if it is a method.
    method : str
        Its name.
    """

    def change(task: TaskFunction, given: Options, where: str) -> None:
        declare_implementation(task, str(given["source_class"]), str(given["method"]))

    return above_task("implement", options, [], ["source_class", "method"], change)


def data_transformation(*args: object, **options: object) -> Decorator:
    """Let a task of its own change an argument before the task gets it: ``@dt("name", function)``.

    Parameters
    ----------
    target : str
        Name of the parameter; the first argument too.
    function : callable
        Given the argument, and for a file or a directory that it writes its path; the second argument too.
    type : optional
        What becomes what, such as ``FILE_TO_OBJECT``.
    destination : str or path, optional
        Where a file or directory is written.
    is_workflow : bool, optional
        Whether the function is called in the program, where it may call tasks.
    size : int, optional
        Of a collection that a file becomes.
    **options
        Further arguments of the function.
    """
    declared = transformation_of(args, options)

    def change(task: TaskFunction, given: Options, where: str) -> None:
        if declared is not None and declared.target not in task.signature.signature.parameters:
            raise TaskDeclarationError(f"{where}: {declared.target!r} is not a parameter of the task.")
        below = task.options.get(BEFORE_CALL) or TransformationsBefore()
        more = () if declared is None else (declared,)
        task.with_options(**{BEFORE_CALL: TransformationsBefore((*more, *below.transformations))})

    return above_task("data_transformation", {}, [], [], change)
