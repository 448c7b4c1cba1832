"""One command under several measuring methods, beside a program whose memory is known."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runmem.trials.methods import METHODS
    from runmem.trials.outcome import Outcome, Site
    from runmem.trials.report.recorded import read_trial
    from runmem.trials.report.results import Results, results_of
    from runmem.trials.trial import Plan, Trial
    from runmem.trials.truth import Truth

__all__ = ["METHODS", "Outcome", "Plan", "Results", "Site", "Trial", "Truth", "read_trial", "results_of"]

_PLACES = {
    "METHODS": "methods", "Outcome": "outcome", "Site": "outcome", "Plan": "trial", "Trial": "trial", "Truth": "truth",
    "Results": "report.results", "results_of": "report.results", "read_trial": "report.recorded",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a name when it is used first: the programs of known memory are in this package, and are to stay small."""
    if name not in _PLACES:
        raise AttributeError(f"module 'runmem.trials' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"runmem.trials.{_PLACES[name]}"), name)
