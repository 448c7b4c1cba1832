"""The arguments of a call as words of a command: in their order, or where a template names them."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from runmem.commands.process import Streams
from runmem.errors import ArgumentError, TaskDeclarationError
from runmem.graph.constraints import units_for
from runmem.graph.directions import Direction, Parameter
from runmem.graph.task import TaskFunction
from runmem.store.node_name import node_name

__all__ = ["CallArguments", "Count", "checked_template", "declared_count"]

_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_]\w*)((?:\.\w+)*)\s*\}\}")
_WILDCARDS = re.compile(r"[*?\[]")
_NO_PREFIX = ("", "null")  # as PyCOMPSs writes them
_LEFT_OUT = "#"  # the prefix of a parameter that is left out of the command line


def checked_template(task: TaskFunction, template: object, where: str) -> str | None:
    """Return a template as it is; None for none.

    Raises
    ------
    TaskDeclarationError
        If it names something that is not a parameter of the task, or is not text.
    """
    if template is None:
        return None
    if not isinstance(template, (str, os.PathLike)):
        raise TaskDeclarationError(f"{where}: {template!r} is not text.")
    text = os.fspath(template)
    for name, _ in _PLACEHOLDER.findall(text):
        if name not in task.signature.signature.parameters and task.signature.varkwargs is None:
            raise TaskDeclarationError(f"{where}: {text!r} names {name!r}, which is not a parameter of the task.")
    return text


class CallArguments:
    """The arguments of one call of a task.

    Parameters
    ----------
    task : TaskFunction
    args, kwargs
        As the task gets them: values, and paths of files.

    Attributes
    ----------
    values : dict
        Value by name, defaults included.
    place : str
        The task with its file and line.
    peak_bytes : int
        Highest resident set size of the processes that were started for the call so far.
    """

    def __init__(self, task: TaskFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.task, self.args, self.kwargs = task, args, kwargs
        bound = task.signature.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        self.values: dict[str, Any] = dict(bound.arguments)
        if task.signature.varkwargs is not None:
            self.values |= self.values.pop(task.signature.varkwargs)
        self.place = task.place
        self.peak_bytes = 0

    def words(self) -> list[str]:
        """Return the arguments as words, in the order of the parameters, without those that are streams."""
        found: list[str] = []
        for name, value in self._given():
            use = self.task.signature.use_of(name)
            if use.stream is None and use.prefix != _LEFT_OUT:
                prefix = "" if use.prefix in _NO_PREFIX else use.prefix
                found += [prefix + word for word in self._words_of(value, use, name)]
        return found

    def paths(self) -> list[str]:
        """Return the paths of the files and directories among the arguments."""
        return [
            word
            for name, value in self._given()
            if (use := self.task.signature.use_of(name)).is_path
            for word in self._words_of(value, use, name)
        ]

    def streams(self) -> Streams:
        """Return the files that are declared as standard streams."""
        paths: dict[str, str] = {}
        appended = set()
        for name, value in self._given():
            use = self.task.signature.use_of(name)
            if use.stream is not None and value is not None:
                paths[use.stream] = os.path.abspath(value)
                if use.direction is Direction.INOUT:
                    appended.add(use.stream)
        return Streams(**paths, appended=frozenset(appended))

    def text(self, template: str) -> str:
        """Return a template with the values of environment variables and of the arguments that it names."""
        return _PLACEHOLDER.sub(self._text_of, os.path.expandvars(template))

    def split(self, template: str, folder: str) -> list[str]:
        """Return the words of a template, as a shell would: quotes, wildcards; a value is never split.

        A list among the arguments gives as many words, where it is named alone.
        """
        whole = _PLACEHOLDER.sub(lambda found: "{{" + found[1] + found[2] + "}}", os.path.expandvars(template))
        try:
            words = shlex.split(whole)
        except ValueError:  # a quote without its other one
            words = whole.split()
        return [each for word in words for each in self._expanded(word, folder)]

    def _expanded(self, word: str, folder: str) -> list[str]:
        alone = _PLACEHOLDER.fullmatch(word)
        if alone is not None:
            return list(self._words_of(self._value(alone), self._use(alone), alone[1]))
        if _WILDCARDS.search(_PLACEHOLDER.sub("", word)):
            pattern = _PLACEHOLDER.sub(lambda found: glob.escape(self._text_of(found)), word)
            if matches := sorted(glob.glob(pattern, root_dir=folder)):
                return matches
        return [_PLACEHOLDER.sub(self._text_of, word)]

    def environment(self) -> dict[str, str]:
        """Return the environment of a command: that of the task, and PyCOMPSs's variables for cores and nodes."""
        found = dict(os.environ)
        units = max(1, self.units())
        found |= {
            "COMPSS_NUM_NODES": "1",
            "COMPSS_NUM_PROCS": "1",
            "COMPSS_NUM_THREADS": str(units),
            "COMPSS_HOSTNAMES": node_name(),
        }
        if units > 1:
            found["OMP_NUM_THREADS"] = str(units)
        return found

    def units(self) -> int:
        """Return the processor cores of the call: 1 where a global that says so is not known on this worker."""
        try:
            return units_for(self.task, self.args, self.kwargs)
        except ArgumentError:
            return 1

    def _given(self) -> Iterator[tuple[str, Any]]:
        for number, (name, value) in enumerate(self.values.items()):
            if number or name not in ("self", "cls") or "." not in self.task.name:
                yield name, value

    def _words_of(self, value: object, use: Parameter, name: str) -> Iterator[str]:
        if value is None:
            return
        if isinstance(value, (list, tuple)):
            for item in value:
                yield from self._words_of(item, use, name)
        elif use.depth and isinstance(value, dict):
            yield from self._words_of(list(value.values()), use, name)
        elif use.is_path:
            yield os.path.abspath(os.fspath(value))  # type: ignore[call-overload]
        else:
            yield self._word(value, name)

    def _word(self, value: object, name: str) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, (str, bytes, os.PathLike)):
            return os.fsdecode(value)
        if isinstance(value, (int, float)) or hasattr(value, "__float__") or hasattr(value, "__index__"):
            return str(value)
        raise ArgumentError(
            f"{self.place}: parameter {name!r} is a {type(value).__name__}, which cannot be a word of a command: pass "
            "text, a number, a list of these, or a file."
        )

    def _value(self, placeholder: re.Match[str]) -> object:
        value = self.values.get(placeholder[1])
        for attribute in placeholder[2].split(".")[1:]:
            value = getattr(value, attribute)
        return value

    def _use(self, placeholder: re.Match[str]) -> Parameter:
        return self.task.signature.use_of(placeholder[1])

    def _text_of(self, placeholder: re.Match[str]) -> str:
        return " ".join(self._words_of(self._value(placeholder), self._use(placeholder), placeholder[1]))


@dataclass(frozen=True, slots=True)
class Count:
    """A number of processes that a decorator declares.

    Attributes
    ----------
    text : str
        A number, or text with an environment variable.
    expression : callable or None
        Gives it, from the parameters of the task and the program's globals, where the text is an expression.
    """

    text: str
    expression: Callable[..., object] | None = None

    def of(self, call: CallArguments) -> int:
        """Return the number for one call. Raises ArgumentError for what is none."""
        text = os.path.expandvars(self.text)
        if "$" in text:  # a variable that is not set
            return 1
        try:
            number = int(str(text if self.expression is None else self._evaluated(call)))
        except Exception as error:
            raise ArgumentError(
                f"{call.place}: processes={self.text!r} gives no number ({type(error).__name__}: {error})."
            ) from error
        if number < 1:
            raise ArgumentError(f"{call.place}: processes={self.text!r} gives {number}, where 1 is the least.")
        return number

    def _evaluated(self, call: CallArguments) -> object:
        assert self.expression is not None
        names = call.task.signature.signature.parameters
        return self.expression(**{name: value for name, value in call.values.items() if name in names})


def declared_count(task: TaskFunction, value: object, where: str) -> Count:
    """Return the number that a value of ``processes=`` or the like means.

    Raises
    ------
    TaskDeclarationError
        For a value that is neither a number nor an expression.
    """
    text = str(value).strip()
    if isinstance(value, int) and not isinstance(value, bool) or text.isdecimal() or "$" in text:
        if text.isdecimal() and int(text) > 0 or "$" in text:
            return Count(text)
        raise TaskDeclarationError(f"{where}={value!r} is less than 1.")
    names = task.signature.signature.parameters
    try:  # a function of the program's module, so that its globals travel to the worker as those of others do
        code = compile(f"lambda {', '.join(f'{name}=None' for name in names)}: ({text})", f"<{where}>", "eval")
        return Count(text, eval(code, getattr(task.function, "__globals__", {})))
    except (SyntaxError, ValueError):
        raise TaskDeclarationError(f"{where}={value!r} is neither a number nor an expression that gives one.") from None
