"""One call of a function with ``@profile(backend="memray")``, or of a task that ``--memray`` names."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from runmem.memory.largest_allocations import Place
from runmem.memory.memray_capture import CaptureFiles, MemrayCapture, memray_takes_part
from runmem.memory.peak import PeakReading, process_meter
from runmem.memory.profile_report import ProfileReport, capture_files, compose
from runmem.memory.profiled_call import CallMeasurement

__all__ = ["RecordedCall"]

Result = TypeVar("Result")

_SUSPENDED = "it is a generator or a coroutine, and memray would record what runs between its steps too"


class RecordedCall(CallMeasurement):
    """Record the allocations of one call, as a context in which `call` makes it; never raises of itself.

    The peak of the call is measured too, with the memory that memray takes meanwhile: about 110 bytes for each block
    that is allocated at a time.
    """

    _capture: MemrayCapture | None = None
    _is_recorded = False

    def _begin(self, within: object) -> None:
        self._files = capture_files()
        self._place = Place(self._subject.source())
        self._window = process_meter().start(within=within)

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function without arguments and return its value.

        memray begins and ends here, in a frame that is open during the whole call: if it began in one that returns
        before, it would mix up the frames of the call.
        """
        if self._window is None:  # the measurement has failed
            return function()
        self._capture = MemrayCapture(self._subject.name, self._place, self._files)
        tracker = self._capture.tracker
        if tracker is not None:
            try:
                tracker.__enter__()
                self._is_recorded = True
            except Exception as error:  # such as: another recording, which is not ours, is under way
                self._capture.fail("memray could not begin", error)
            process_meter().stop(self._window)  # what memray took to begin is not of the call
            self._window = process_meter().start()
        try:
            return function()
        finally:
            process_meter().stop(self._window)  # here, since memray takes memory to end
            if self._is_recorded:
                try:
                    tracker.__exit__(None, None, None)
                except Exception as error:
                    self._capture.fail("memray could not end", error)

    def _report(self, peak: PeakReading, times: tuple[float, float]) -> ProfileReport:
        capture, subject, options = self._capture, self._subject, self._options
        if capture is not None:
            capture.read()
        if self._is_recorded:
            peak = peak._replace(reason=memray_takes_part(peak.reason))
        table = _RecordedTable(capture, self._place, self._files) if options.full_report else None
        report = compose(subject.name, subject.file, table, peak, times, options.precision)
        if capture is None:
            return report._replace(not_recorded=_SUSPENDED)
        return report._replace(
            recorded_by="memray" if self._is_recorded else None,
            capture=capture.path,
            not_recorded=None if capture.is_enough else capture.not_recorded,
        )


class _RecordedTable(NamedTuple):
    """The largest allocations of a call, see `runmem.memory.profile_report.Table`."""

    capture: MemrayCapture | None
    place: Place
    files: CaptureFiles

    def render(self, precision: int = 1) -> str:
        allocations = None if self.capture is None else self.capture.allocations
        text = "" if allocations is None else f"\n{allocations.render(self.place, precision)}\n\n"
        return f"Filename: {self.place.source.file}\n{text}\n"

    def notes(self, is_shared: bool) -> list[str]:
        capture = self.capture
        if capture is None:
            return [f"Allocations: not recorded, {_SUSPENDED}"]
        found = []
        if is_shared and capture.allocations is not None:
            found.append("Allocations: also those of another task, which ran in the process at the same time")
        if capture.not_recorded is not None:
            found.append(f"Allocations: not recorded, {capture.not_recorded}")
        if capture.path is not None and self.files.of_run:
            found.append(f"Flame graph: {capture.path.stem}.html, made of {capture.path.name} at the end of the run")
        elif capture.path is not None:
            path = shlex.quote(os.path.relpath(capture.path))
            found.append(f"Flame graph: python -m memray flamegraph {path}")
        return found
