"""The program of one running call of a task: what the task calls, and waits for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runmem.execution.lazy_submitter import LazySubmitter
from runmem.graph.current import program_of_thread
from runmem.graph.lazy_values import Items
from runmem.graph.program import Program

__all__ = ["ProgramOfTask"]


class ProgramOfTask:
    """Implements `runmem.worker.nesting.CallsOfTask` by a program that lasts as long as the call.

    Parameters
    ----------
    submitter : LazySubmitter
        Makes its submitter at the first call.
    files : str
        Folder for versions of files.
    next_number : callable
        Returns the number of the next call.
    implicit_sync : bool
        See `Program`.
    """

    def __init__(
        self, submitter: LazySubmitter, files: str, next_number: Callable[[], int], implicit_sync: bool
    ) -> None:
        self._submitter = submitter
        self._files = files
        self._next_number = next_number
        self._folder: Path | None = None
        self._program = Program(submitter, self._files_folder, lambda calls: next_number())
        self._program.implicit_sync = implicit_sync
        self._program.waits_in_its_thread = True

    def complete(self, body: Callable[[], Sequence[Any]]) -> Sequence[Any]:
        """Run a task and all calls that it makes; see `CallsOfTask`."""
        with program_of_thread(self._program):
            try:
                outputs = body()
                return outputs if self._submitter.real is None else self._completed(outputs)
            except BaseException:
                self._submitter.cancel()
                self._submitter.wait(None, raises=False)
                raise
            finally:
                self.end()

    def _completed(self, outputs: Sequence[Any]) -> Sequence[Any]:
        program = self._program
        program.barrier()
        if errors := program.place_all_files():
            raise errors[0]
        given = [list(output) if type(output) is Items else output for output in outputs]
        values = program.wait_on((given,))
        return [Items(value) if type(output) is Items else value for value, output in zip(values, outputs, strict=True)]

    def end(self) -> None:
        """Send no more calls, and remove what was made for them."""
        if self._submitter.real is not None:
            self._submitter.real.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _files_folder(self) -> Path:
        if self._folder is None:
            self._folder = Path(self._files, f"of-{self._next_number()}")
        return self._folder
