"""Read a trial back from its ``trial.json``, to make its tables and figures again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runmem.errors import SettingError
from runmem.reading import read_json, short_repr
from runmem.trials.kinds import Kind
from runmem.trials.methods import Reading, methods_named
from runmem.trials.outcome import Outcome
from runmem.trials.starts import STARTS
from runmem.trials.trial import Execution, Plan, Trial
from runmem.trials.truth import Truth
from runmem.trials.variants import Variant
from runmem.trials.watch import Watch

__all__ = ["read_trial"]


def read_trial(path: Path) -> Trial:
    """Return the trial of a ``trial.json``.

    Raises
    ------
    SettingError
        If the file cannot be read, or is no trial of this version.

    Notes
    -----
    The processes of an execution are not in the file, only their number.
    """
    try:
        whole = read_json(path)
        plan = whole["plan"]
        variants = [_variant(each) for each in plan["variants"]]
        by_label = {(variant.role, variant.label): variant for variant in variants}
        made = Plan(
            variants, [], methods_named(plan["methods"]), [STARTS[name] for name in plan["starts"]], plan["repeat"],
            plan["warmup"], plan["seed"], plan["interval_s"],
        )  # fmt: skip
        kind = None if whole["kind"] is None else Kind(tuple(whole["kind"]["patterns"]), whole["kind"]["description"])
        executions = [_execution(each, by_label) for each in whole["executions"]]
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise SettingError(f"{path} is no trial.json of this version: {short_repr(error)}") from error
    return Trial(made, dict(whole["unavailable"]), executions, kind, whole["stopped"])


def _variant(each: dict[str, Any]) -> Variant:
    return Variant(each["role"], tuple(each["command"]), dict(each["values"]), tuple(each["cpus"]))


def _execution(each: dict[str, Any], by_label: dict[tuple[str, str], Variant]) -> Execution:
    truth = None if each["truth"] is None else Truth.from_json(each["truth"])
    variant = by_label.get((each["role"], each["label"]))
    if variant is None:
        pattern = truth.pattern if truth is not None else each["label"].removeprefix("control ")
        variant = Variant(each["role"], (each["command"],), dict(each["values"]), pattern=pattern)
    readings = {
        name: Reading(name, read["bytes"], read["note"], read.get("partial", False))
        for name, read in each["readings"].items()
    }
    outcome = Outcome(
        each["exit_code"], each["wall_s"], job=each["job"], cpu_s=each["cpu_s"], stopped_s=each.get("stopped_s")
    )
    watch = Watch(each.get("watched_by", Watch.ALL))
    return Execution(
        variant, each["start"], each["repeat"], each["started_s"], outcome, readings, truth, each["output"] or "",
        watch, each["processes"] or 0,
    )  # fmt: skip
