"""Writes the graph of a run for graphviz: ``complete_graph.dot``, and an SVG where ``dot`` is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

from runmem.collection.observer import Observer
from runmem.events import RunEnded, TaskMeasured, TaskSubmitted
from runmem.standard_error import say
from runmem.store.output import write_file
from runmem.units import format_bytes

__all__ = ["GraphWriter"]

_MOST_EDGES = 6500  # `dot` takes minutes for more
_LAYOUT_S = 60.0
_COLOURS = (
    "#66c2a5", "#fc8d62", "#8da0cb", "#e78ac3", "#a6d854", "#ffd92f", "#e5c494", "#b3b3b3", "#80b1d3", "#fb8072",
)  # fmt: skip


class GraphWriter(Observer):
    """Collects the calls of a run and their dependencies; writes the graph when the run ends.

    Parameters
    ----------
    dot : Path
        Its file; that of the drawing is beside it.
    """

    def __init__(self, dot: Path) -> None:
        self._dot = dot
        self._calls: dict[int, TaskSubmitted] = {}
        self._peaks: dict[int, int] = {}

    def task_submitted(self, event: TaskSubmitted) -> None:
        """Add a call."""
        self._calls[event.task_id] = event

    def task_measured(self, event: TaskMeasured) -> None:
        """Add the peak of a call; the highest peak of a call that ran several times."""
        task_id, peak = event.record.task_id, event.record.peak_bytes
        if peak is not None:
            self._peaks[task_id] = max(peak, self._peaks.get(task_id, 0))

    def run_ended(self, event: RunEnded) -> None:
        """Write the files."""
        edges = [edge for call in self._calls.values() for edge in self._edges_to(call)]
        lines = ["digraph {", '  rankdir=TB; node [shape=ellipse style=filled fontname="sans-serif"];']
        lines += [*self._nodes(), *edges, *self._legend(), "}"]
        try:
            write_file(self._dot, "\n".join([*lines, ""]).encode())
        except OSError as error:
            say(f"runmem: the graph could not be written to {self._dot}: {error.strerror or error}")
            return
        self._draw(len(edges))

    def _nodes(self) -> list[str]:
        colours = self._colour_by_name()
        nodes = []
        for task_id, call in self._calls.items():
            peak = f"\n{format_bytes(self._peaks[task_id])}" if task_id in self._peaks else ""
            label = _quoted(f"{call.name} {task_id}{peak}")
            nodes.append(f'  {task_id} [label={label} fillcolor="{colours[call.name]}"];')
        return nodes

    def _edges_to(self, call: TaskSubmitted) -> list[str]:
        """Return an edge for each input from another call, and for each call that writes a file of this one."""
        edges = [
            f"  {task_id} -> {call.task_id} [label={_quoted(f'd{task_id}.{output}')}];"
            for task_id, output in call.inputs
            if task_id in self._calls
        ]
        for task_id in call.after:
            if (before := self._calls.get(task_id)) is not None:
                shared = {Path(file).name for file in call.files} & {Path(file).name for file in before.files}
                label = _quoted(", ".join(sorted(shared)))
                edges.append(f"  {task_id} -> {call.task_id} [label={label} style=dashed];")
        return edges

    def _legend(self) -> list[str]:
        counts = Counter(call.name for call in self._calls.values())
        colours = self._colour_by_name()
        boxes = [
            f'    legend{number} [shape=box label={_quoted(f"{name} ({count})")} fillcolor="{colours[name]}"];'
            for number, (name, count) in enumerate(counts.items())
        ]
        return ["  subgraph cluster_legend {", '    label="tasks (calls)";', *boxes, "  }"] if boxes else []

    def _colour_by_name(self) -> dict[str, str]:
        names = dict.fromkeys(call.name for call in self._calls.values())
        return {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}

    def _draw(self, edges: int) -> None:
        """Draw the graph as an SVG, if graphviz is installed."""
        dot = shutil.which("dot")
        if dot is None or not self._calls:
            return
        if edges > _MOST_EDGES:
            say(f"runmem: the graph has {edges} edges, too many to draw: it is in {self._dot}")
            return
        command = [dot, "-Tsvg", str(self._dot), "-o", str(self._dot.with_suffix(".svg"))]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_LAYOUT_S)
        except (OSError, subprocess.SubprocessError) as error:
            say(f"runmem: the graph could not be drawn ({error}): it is in {self._dot}")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
