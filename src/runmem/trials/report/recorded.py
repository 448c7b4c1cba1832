"""Read a trial from its ``trial.json``, to make its tables and figures again."""

from __future__ import annotations

from pathlib import Path

from runmem.errors import SettingError
from runmem.reading import JsonObject, read_json, short_repr
from runmem.trials.kinds import ProgramKind
from runmem.trials.methods import Reading, methods_named
from runmem.trials.outcome import CommandOutcome
from runmem.trials.starts import STARTS
from runmem.trials.trial import Plan, Trial, TrialExecution
from runmem.trials.truth import Truth
from runmem.trials.variants import Variant
from runmem.trials.watch import Watch

__all__ = ["read_trial"]


def read_trial(path: Path) -> Trial:
    """Return the trial in a ``trial.json``, which has the number of processes of an execution but not the processes.

    Raises SettingError if the file cannot be read, or is not a trial of this version.
    """
    try:
        whole = read_json(path)
        plan = whole["plan"]
        variants = [_variant(each) for each in plan["variants"]]
        by_label = {(variant.role, variant.label): variant for variant in variants}
        methods, starts = methods_named(plan["methods"]), [STARTS[name] for name in plan["starts"]]
        numbers = (plan[name] for name in ("repeat", "warmup", "seed", "interval_s"))
        made, kind = Plan(variants, [], methods, starts, *numbers), whole["kind"]
        kind = None if kind is None else ProgramKind(tuple(kind["patterns"]), kind["description"])
        executions = [_execution(each, by_label) for each in whole["executions"]]
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise SettingError(f"{path} is not a trial.json of this version: {short_repr(error)}") from error
    return Trial(made, dict(whole["unavailable"]), executions, kind, whole["stopped"])


def _variant(each: JsonObject) -> Variant:
    return Variant(each["role"], tuple(each["command"]), dict(each["values"]), tuple(each["cpus"]))


def _execution(each: JsonObject, by_label: dict[tuple[str, str], Variant]) -> TrialExecution:
    truth = None if each["truth"] is None else Truth.from_json(each["truth"])
    variant = by_label.get((each["role"], each["label"]))
    if variant is None:
        pattern = truth.pattern if truth is not None else each["label"].removeprefix("control ")
        variant = Variant(each["role"], (each["command"],), dict(each["values"]), pattern=pattern)
    readings = {
        name: Reading(name, read["bytes"], read["note"], read.get("partial", False))
        for name, read in each["readings"].items()
    }
    outcome = CommandOutcome(
        each["exit_code"], each["wall_s"], job=each["job"], cpu_s=each["cpu_s"], stopped_s=each.get("stopped_s")
    )
    watch = Watch(each.get("watched_by", Watch.ALL))
    began = (each["start"], each["repeat"], each["started_s"])
    rest = (each["output"] or "", watch, each["processes"] or 0)
    return TrialExecution(variant, *began, outcome, readings, truth, *rest)
