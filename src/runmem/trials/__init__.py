"""Run one command under several measuring methods, and beside it control programs of known memory."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runmem.trials.methods import METHODS
    from runmem.trials.outcome import CommandOutcome, Site
    from runmem.trials.report.recorded import read_trial
    from runmem.trials.report.results import TrialResults, results_of
    from runmem.trials.trial import Plan, Trial
    from runmem.trials.truth import Truth

__all__ = ["METHODS", "CommandOutcome", "Plan", "TrialResults", "Site", "Trial", "Truth", "read_trial", "results_of"]

_MODULES = {
    "methods": ("METHODS",),
    "outcome": ("CommandOutcome", "Site"),
    "trial": ("Plan", "Trial"),
    "truth": ("Truth",),
    "report.results": ("TrialResults", "results_of"),
    "report.recorded": ("read_trial",),
}


def __getattr__(name: str) -> object:
    """Import a name on first use: the control program is in this package and must stay small."""
    for module, names in _MODULES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(f"runmem.trials.{module}"), name)
    raise AttributeError(f"module 'runmem.trials' has no attribute {name!r}")
