"""Writes records and profile reports into the run directory."""

from __future__ import annotations

from runmem.events import DataLost, ProfileReported, RecordLines
from runmem.execution.observer import Observer
from runmem.store.append import LineAppender
from runmem.store.layout import RunDirectory, safe_name

__all__ = ["Recorder", "ProfileWriter"]


class Recorder(Observer):
    """Appends each measurement to ``tasks.jsonl`` and keeps count of what was lost.

    Attributes
    ----------
    records : int
        How many records were written.
    lost : list of str
        What was lost, for the end of the run.
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

    def run_ended(self) -> None:
        """Close the file."""
        if self._file.lost_lines:
            self.lost.append(f"{self._file.path}: {self._file.lost_lines} records could not be written (disk full?)")
        self._file.close()


class ProfileWriter(Observer):
    """Writes the workers' `@profile` reports to ``profiles/<function>.txt`` and, on request, to standard output."""

    def __init__(self, run: RunDirectory, show: bool) -> None:
        self._run = run
        self._show = show
        self._files: dict[str, LineAppender] = {}

    def profile_reported(self, event: ProfileReported) -> None:
        """Write one whole report."""
        if event.name not in self._files:
            self._files[event.name] = LineAppender(self._run.profiles / f"{safe_name(event.name)}.txt")
        text = event.text.rstrip("\n") + "\n"
        self._files[event.name].write(text.encode())
        if self._show:
            print(text, end="", flush=True)

    def run_ended(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
