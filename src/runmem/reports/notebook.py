"""A run as HTML, for a notebook: its summary, with the table of tasks, and its figure."""

from __future__ import annotations

from base64 import b64encode
from html import escape

from runmem.errors import SettingError
from runmem.reports.figure import drawn_run
from runmem.reports.summary import RunSummary
from runmem.store.run import RunData

__all__ = ["run_html"]

_MOST_ROWS = 30
_STYLES = {"bold": "font-weight:bold", "red": "color:#c0392b", "yellow": "color:#9a6700", "dim": "opacity:0.65"}


def run_html(run: RunData) -> str:
    """Return a run as HTML."""
    lines = "\n".join(_line(text, style) for text, style in RunSummary.from_run(run).lines(most_rows=_MOST_ROWS))
    table = f'<pre style="line-height:1.35;overflow-x:auto">{lines}</pre>'
    return f'<div class="runmem">{table}{_figure(run)}</div>'


def _line(text: str, style: str) -> str:
    css = ";".join(_STYLES[word] for word in style.split() if word in _STYLES)
    return f'<span style="{css}">{escape(text)}</span>' if css else escape(text)


def _figure(run: RunData) -> str:
    try:
        image = b64encode(drawn_run(run)).decode()
    except SettingError:  # no trace yet: the measurement has just begun
        return ""
    except ImportError:
        return "<p>For the figure install matplotlib.</p>"
    return f'<img alt="memory over time" style="max-width:100%" src="data:image/png;base64,{image}">'
