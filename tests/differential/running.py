"""Runs the source of a program in this process, as `__main__`, with a submitter of the test's choice."""

from __future__ import annotations

import io
import linecache
import sys
import tempfile
import types
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from runmem.collection.observer import Observers
from runmem.execution.sequential import SequentialSubmitter
from runmem.graph.current import set_current_program
from runmem.graph.program import Program

__all__ = ["Outcome", "as_program", "run_sequentially", "run_with"]


class Outcome(NamedTuple):
    """What a program did."""

    out: str
    code: int


@contextmanager
def as_program(submitter: Any) -> Iterator[dict[str, Any]]:
    """Let calls of tasks go to `submitter`; give the globals of a program."""
    module = types.ModuleType("__main__")
    module.__dict__["__file__"] = "program.py"
    before = sys.modules["__main__"]
    sys.modules["__main__"] = module
    with tempfile.TemporaryDirectory() as folder:
        module.__dict__["folder"] = folder
        set_current_program(Program(submitter, lambda: Path(folder) / "versions"))
        try:
            yield vars(module)
            assert sys.modules["__main__"] is module, "a task has left another module in place of the program"
        finally:
            set_current_program(None)
            sys.modules["__main__"] = before


def run_with(submitter: Any, source: str) -> Outcome:
    """Run a program to its end, and its tasks too unless it crashed, as `runmem program.py` does."""
    linecache.cache["program.py"] = (len(source), None, source.splitlines(keepends=True), "program.py")
    out = io.StringIO()
    with as_program(submitter) as names, redirect_stdout(out):
        code, orderly = 0, True
        try:
            exec(compile(source, "program.py", "exec"), names)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except AssertionError:  # of the cluster in this process
            raise
        except Exception as error:
            print(f"uncaught: {type(error).__name__}: {error}")
            code, orderly = 1, False
        while orderly and not code:
            try:
                submitter.wait(None)
                break
            except AssertionError:
                raise
            except Exception:
                code = 1
                submitter.unseen_errors()
    return Outcome(out.getvalue(), code or int(bool(submitter.unseen_errors())))


def run_sequentially(source: str) -> Outcome:
    """Run a program as `runmem --sequential program.py` does."""
    return run_with(SequentialSubmitter(lambda: None, Observers([])), source)
