from __future__ import annotations

import os

import pytest

from runmem.errors import SettingError
from runmem.trials.variants import (
    ControlRequest,
    check_program,
    control_requests,
    control_variant,
    numeric,
    parse_sweeps,
    variants_of,
)
from runmem.units import GIB, MIB


def test_each_combination_of_the_sweeps_is_a_variant():
    found = variants_of(["echo", "visit={visit}", "ccd={ccd}"], parse_sweeps(["visit=1,2", "ccd=1,2,4"]))
    assert len(found) == 6
    assert found[4].command == ("echo", "visit=2", "ccd=2")
    assert found[4].label == "visit=2 ccd=2"


def test_cores_are_a_variable_and_an_affinity():
    (one,) = variants_of(["true"], {}, [1])
    assert one.values == {"cores": "1"}
    assert one.cpus == (min(os.sched_getaffinity(0)),)


def test_doubled_braces_are_the_name_itself_and_other_braces_stay():
    (found,) = variants_of(["echo", "{{x}}", '{"a": 1}', "{{.Name}}", "{}"], {})
    assert found.command == ("echo", "{x}", '{"a": 1}', "{{.Name}}", "{}")


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["visit"], "a name and its values"),
        (["visit="], "a name and its values"),
        (["visit=1,,2"], "a name and its values"),
        (["a b=1"], "a name and its values"),
        (["v=1,1"], "a value occurs twice"),
        (["v=1", "v=2"], "v has a sweep already"),
        (["cores=1,2"], "use --cores"),
    ],
)  # fmt: skip
def test_a_sweep_that_cannot_be_used_is_refused(texts, complaint):
    with pytest.raises(SettingError, match=complaint):
        parse_sweeps(texts)


def test_a_name_without_a_sweep_is_refused():
    with pytest.raises(SettingError, match=r"the command has \{ccd\}, but there is no --sweep ccd"):
        variants_of(["echo", "{visit}", "{ccd}"], {"visit": ["1"]})


def test_a_sweep_that_the_command_does_not_use_is_refused():
    with pytest.raises(SettingError, match=r"--sweep ccd: the command has no \{ccd\}"):
        variants_of(["echo", "{visit}"], {"visit": ["1"], "ccd": ["2"]})


def test_more_processors_than_there_are_are_refused():
    with pytest.raises(SettingError, match="--cores 4096: this process may use"):
        variants_of(["true"], {}, [4096])


def test_a_program_that_cannot_be_executed_is_refused(tmp_path):
    script = tmp_path / "app.py"
    script.write_text("")
    with pytest.raises(SettingError, match="'no-such-program-at-all' is not on the PATH"):
        check_program(["no-such-program-at-all"])
    with pytest.raises(SettingError, match="does not exist"):
        check_program([str(tmp_path / "none")])
    with pytest.raises(SettingError, match="is not executable: try python .*app.py"):
        check_program([str(script)])


def test_controls_are_read_with_their_sizes():
    assert control_requests([]) is None
    assert control_requests(["auto"]) is None
    assert control_requests(["none"]) == []
    assert control_requests(["fork", "parallel:200MiB"]) == [
        ControlRequest("fork"),
        ControlRequest("parallel", 200 * MIB),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("huge", "the patterns are one, parallel"), ("one:x", "not an amount of memory"), ("one:1KiB", "at least 1 MiB")],
)
def test_a_control_that_cannot_be_had_is_refused(text, complaint):
    with pytest.raises(SettingError, match=complaint):
        control_requests([text])


@pytest.mark.parametrize(
    ("like", "memory", "size"),
    [(None, GIB * 16, "64"), (200 * MIB, GIB * 16, "200"), (GIB * 9, GIB * 16, "512"), (GIB, GIB, "64")],
)
def test_a_control_is_as_large_as_the_command_within_bounds(like, memory, size):
    assert control_variant(ControlRequest("one"), like, memory).command[-1] == size


def test_numeric_values_are_recognized():
    assert [numeric(text) for text in ("2", "1e3", "nan", "inf", "r")] == [2.0, 1000.0, None, None, None]
