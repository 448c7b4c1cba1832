"""Groups and failure policies, in a program that runs on a cluster and without one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PROGRAM = Path(__file__).with_name("failures_program.py")


class Ended(NamedTuple):
    found: dict[str, Any]
    code: int
    error: str


def run(
    folder: Path, program: Path, *arguments: str, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runmem", "--no_summary", *options, str(program), *arguments],
        cwd=folder, env={**os.environ}, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["cluster", "sequential"])
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "cluster":
        done = run(folder, PROGRAM, "--die", options=("--workers=2",))
    else:
        done = run(folder, PROGRAM, options=("--sequential",))
    assert done.stdout, done.stderr
    return Ended(json.loads(done.stdout), done.returncode, done.stderr)


@pytest.mark.parametrize("name", ["group", "barrier of a group"])
def test_an_exception_cancels_its_group_and_keeps_what_was_written(ended: Ended, name: str) -> None:
    assert ended.found[name] == "3caught on purpose!"


def test_successors_are_cancelled(ended: Ended) -> None:
    assert ended.found["cancelled"] == [[9, None, None], "left"]
    assert "task cancels (call" in ended.error
    assert "the calls that depend on it are cancelled: ValueError: on purpose" in ended.error


def test_a_call_on_a_cancelled_value_is_said_at_once(ended: Ended) -> None:
    said = re.search(r"TaskWarning: show \(call \d+\) is cancelled: it needs what show \(call \d+\) makes", ended.error)
    assert (said is not None) == ("cancelled at once" in ended.found)
    assert ended.found.get("cancelled at once") is None


def test_a_missing_file_is_said_to_be_that_of_a_parameter(ended: Ended) -> None:
    assert re.match(r"read \(.*failures_program.py:\d+\): the file is that of parameter 'path'", ended.found["missing"])


def test_a_call_is_tried_again_from_the_state_before(ended: Ended) -> None:
    assert ended.found["tried again"] == [3, "once"]
    assert ended.found["tried in vain"] == 4
    assert "failed, try 3 of 4: KeyError: 'never'" in ended.error


def test_a_task_without_a_policy_is_tried_again_in_a_program_of_pycompss(ended: Ended) -> None:
    assert ended.found["default"] == [[3, [0, 1]], "once"]
    assert "task succeeds_late_without_a_policy" in ended.error
    in_place = ended.found["tries"].pop("in place")
    assert ended.found["tries"] == {"fails_at_once": 1, "too_few_values": 1, "raises_for_the_group": 1}
    on_a_cluster = "ignored death" in ended.found  # without one, the task has changed a copy
    assert in_place == (1 if on_a_cluster else 4)
    assert ("is not tried again, because it has changed its INOUT data in place" in ended.error) == on_a_cluster


def test_a_failure_is_ignored(ended: Ended) -> None:
    assert ended.found["ignored"] == [5, [None], None, None, [0, 1], "None"]
    assert ended.found["default file"]
    assert "task ignored (call" in ended.error


def test_a_file_of_a_call_that_failed_stays_as_it_was(ended: Ended) -> None:
    assert ended.found["failed"] == ""


def test_the_death_of_a_process_is_ignored(ended: Ended) -> None:
    assert ended.found.get("ignored death", "None") == "None"


def test_calls_of_a_cancelled_group_give_none_or_have_run(ended: Ended) -> None:
    values = [int(value) for value in ended.found["cancelled group"]]
    assert values == sorted(set(values))
    assert set(values) <= set(range(200))


def test_errors_that_were_caught_or_have_a_policy_do_not_change_the_exit_code(ended: Ended) -> None:
    assert ended.code == 0, ended.error
