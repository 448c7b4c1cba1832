"""Writes records and profile reports into the run directory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from runmem.collection.observer import Observer
from runmem.events import CaptureReceived, DataLost, ProfileReported, RecordLines, RunEnded
from runmem.store.append import LineAppender
from runmem.store.layout import RunDirectory, safe_name

__all__ = ["Recorder", "ProfileWriter"]


class Recorder(Observer):
    """Appends each measurement to ``tasks.jsonl``, and notes losses.

    Attributes
    ----------
    records : int
        Number of records written.
    lost : list of str
        Descriptions of the losses, for the end of the run.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._file = LineAppender(run.tasks_jsonl)
        self.records = 0
        self.lost: list[str] = []

    def records_written(self, event: RecordLines) -> None:
        """Write records."""
        self._file.write(event.lines)
        self.records += event.count

    def data_lost(self, event: DataLost) -> None:
        """Note a loss."""
        line = f"{event.place}: {event.reason}"
        if line not in self.lost:
            self.lost.append(line)

    def run_ended(self, event: RunEnded) -> None:
        """Close the file."""
        if self._file.was_removed:
            self.lost.append(f"{self._file.path}: it was removed while the run went on, with the records in it")
        if self._file.lost_lines:
            self.lost.append(f"{self._file.path}: {self._file.lost_lines} records could not be written (disk full?)")
        self._file.close()


class ProfileWriter(Observer):
    """Writes the workers' `@profile` reports to ``profiles/<function>.txt`` and, on request, to standard output.

    Files with recorded allocations become ``profiles/memray-<function>-<node>-<number>.bin``.
    """

    def __init__(self, run: RunDirectory, show: bool, report_loss: Callable[[DataLost], None]) -> None:
        self._run = run
        self._report_loss = report_loss
        self._show = show
        self._files: dict[str, LineAppender] = {}

    def profile_reported(self, event: ProfileReported) -> None:
        """Write one whole report."""
        text = event.text.rstrip("\n") + "\n"
        if (file := self._file_of(event.name)) is not None:
            file.write(text.encode())
        if self._show:
            with suppress(OSError, ValueError):  # a full or closed standard output
                print(text, end="", flush=True)

    def capture_received(self, event: CaptureReceived) -> None:
        """Write a part of a file."""
        path = self._run.profiles / safe_name(event.file)
        try:
            with open(path, "r+b" if event.offset else "wb") as file:
                file.seek(event.offset)
                file.write(event.data)
        except OSError as error:
            reason = f"recorded allocations could not be written: {error.strerror or error}"
            self._report_loss(DataLost(str(path), reason))

    def _file_of(self, name: str) -> LineAppender | None:
        """Return the file of a function's reports; None if it cannot be made (a full or read-only disk)."""
        if name not in self._files:
            path = self._run.profiles / f"{safe_name(name)}.txt"
            try:
                self._files[name] = LineAppender(path)
            except OSError as error:
                self._report_loss(DataLost(str(path), f"a report could not be written: {error.strerror or error}"))
                return None
        return self._files[name]

    def run_ended(self, event: RunEnded) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
