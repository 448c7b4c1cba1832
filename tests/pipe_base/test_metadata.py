from __future__ import annotations

import json
import math

import numpy as np
import pytest

from runmem.pipe_base.metadata import TaskMetadata


def lsst_document() -> dict[str, object]:
    return {
        "scalars": {},
        "arrays": {},
        "metadata": {
            "demo:sub": {
                "scalars": {"__version__": 1, "nodeName": "n1"},
                "arrays": {"runEndMaxResidentSetSize": [3, 7], "runEndUtc": ["2026-11-20T12:00:00.5+00:00"] * 2},
                "metadata": {},
            }
        },
    }


def test_lsst_json_survives_a_round_trip():
    metadata = TaskMetadata.from_json(json.dumps(lsst_document()))
    assert json.loads(metadata.to_json()) == lsst_document()


def test_a_dot_goes_one_level_down():
    metadata = TaskMetadata.from_json(lsst_document())
    assert metadata["demo:sub.nodeName"] == "n1"
    assert metadata["demo:sub"].getScalar("__version__") == 1
    assert "demo:sub.nodeName" in metadata
    assert "demo.nodeName" not in metadata


def test_a_dotted_key_makes_the_levels_it_needs():
    metadata = TaskMetadata()
    metadata["a.b.c"] = 1
    assert metadata.to_json_form()["metadata"]["a"]["metadata"]["b"]["scalars"] == {"c": 1}


def test_the_scalar_of_an_array_is_its_last_element_and_the_array_of_a_scalar_has_one():
    metadata = TaskMetadata.from_json(lsst_document())
    assert metadata.getScalar("demo:sub.runEndMaxResidentSetSize") == 7
    assert metadata.getArray("demo:sub.runEndMaxResidentSetSize") == [3, 7]
    assert metadata.getArray("demo:sub.nodeName") == ["n1"]


def test_param_names_leave_out_the_levels_and_names_have_them():
    metadata = TaskMetadata.from_dict({"top": 1, "a": {"x": 2, "b": {"y": 3}}})
    assert metadata.paramNames(topLevelOnly=True) == {"top"}
    assert metadata.paramNames(topLevelOnly=False) == {"top", "a.x", "a.b.y"}
    assert metadata.names() == {"top", "a", "a.x", "a.b", "a.b.y"}


def test_nan_and_infinity_survive_json():
    again = TaskMetadata.from_json(TaskMetadata.from_dict({"x": math.nan, "y": [math.inf, -math.inf]}).to_json())
    assert math.isnan(again["x"])
    assert again.getArray("y") == [math.inf, -math.inf]


def test_adding_turns_a_scalar_into_an_array():
    metadata = TaskMetadata.from_dict({"n": 1})
    metadata.add("n", 2)
    metadata.add("n", [3, 4])
    assert metadata.arrays == {"n": [1, 2, 3, 4]}
    assert metadata.scalars == {}


def test_adding_another_type_is_refused():
    with pytest.raises(TypeError, match="n = .*mixes int, str"):
        TaskMetadata.from_dict({"n": [1]}).add("n", "two")


def test_numbers_of_numpy_become_plain_ones():
    metadata = TaskMetadata.from_dict({"i": np.int64(3), "f": np.float32(0.5), "a": np.arange(2), "l": [np.float64(1)]})
    assert json.loads(metadata.to_json()) == {"scalars": {"i": 3, "f": 0.5}, "arrays": {"a": [0, 1], "l": [1.0]},
                                              "metadata": {}}  # fmt: skip


def test_a_value_that_does_not_fit_is_named_with_its_key():
    with pytest.raises(TypeError, match=r"a\.b = None is a NoneType"):
        TaskMetadata.from_dict({"a.b": None})


@pytest.mark.parametrize("key", ["missing", "a.missing", "missing.x"])
def test_a_missing_key_is_named_in_full(key):
    with pytest.raises(KeyError, match=key):
        TaskMetadata.from_dict({"a": {"x": 1}})[key]


def test_deleting_takes_an_item_away():
    metadata = TaskMetadata.from_dict({"a": {"x": 1, "y": 2}})
    del metadata["a.x"]
    assert metadata.names() == {"a", "a.y"}
    with pytest.raises(KeyError, match=r"a\.x"):
        del metadata["a.x"]


def test_a_new_value_of_another_kind_replaces_the_old_one():
    metadata = TaskMetadata.from_dict({"a": 1})
    metadata["a"] = [1, 2]
    assert (metadata.scalars, metadata.arrays) == ({}, {"a": [1, 2]})


@pytest.mark.parametrize("document", ["[]", "{}", '{"scalars": 1}', '{"other": {}}'])
def test_json_of_another_form_is_refused(document):
    with pytest.raises(ValueError, match="not task metadata"):
        TaskMetadata.from_json(document)


def test_a_copy_of_other_metadata_has_scalars_for_arrays_of_one():
    copy = TaskMetadata.from_metadata(TaskMetadata.from_dict({"a": {"one": [5], "two": [5, 6]}}))
    assert copy.to_dict() == {"a": {"one": 5, "two": [5, 6]}}


def test_a_name_may_be_a_scalar_and_a_level_at_once():
    metadata = TaskMetadata.from_json({"scalars": {"a": 1}, "metadata": {"a": {"scalars": {"x": 2}}}})
    assert metadata["a"] == 1
    assert metadata.level("a")["x"] == 2
    assert metadata["a.x"] == 2


def test_an_added_value_joins_the_same_list_and_one_of_another_type_is_refused():
    metadata = TaskMetadata.from_dict({"a": {"x": [1, 2]}})
    held = metadata.getArray("a.x")
    metadata.add("a.x", 3)
    assert held == [1, 2, 3]
    assert metadata.getArray("a.x") is held
    with pytest.raises(TypeError, match=r"a\.x = .* mixes"):
        metadata.add("a.x", "four")


class Slowly(TaskMetadata):
    """Metadata that are always read by the general parser, which defines the valid content."""


_PLAIN = '"a": 1'
_SCALARS = [
    _PLAIN, '"a": 1.0, "b": "x", "c": true', '"a": NaN', '"a": -Infinity', '"a": 1e400', '"a": -0', '"a": null',
    '"a": 18446744073709551616', '"a": [1]', '"a": {}', '"a.b": 1', '"a.b": 1, "a.c": 2', '"": 1', '"\u00e9": 1',
    '"a": "\\ud800"', '"a": "\\u0000"', '"a": 1, "a": 2.5', '"a": 1, "b": 2, "a": "x"', '"a": 01', '"a": 1,', "1: 1",
]  # fmt: skip
_ARRAYS = [
    "", '"a": []', '"a": [1, 2], "b": ["x"]', '"a": [1, 2.0]', '"a": [1, true]', '"a": ["x", 1]', '"a": [1, NaN]',
    '"a": 1', '"a": "xy"', '"a": [null]', '"a": [[1]]', '"a": [{}]', '"b.c": [1]', '"a": {"b": 1}', '"a": [1e999]',
]  # fmt: skip
_LEVELS = [
    "", '"n": {}', '"n": null', '"n": {"scalars": {"a": 1}}', '"n": {"scalars": {"a.b": 1}}', '"n.m": {}', '"n": 0',
    '"n": {"arrays": {"a": [1, 2.0]}}', '"n": {"other": {}}', '"n": {"metadata": {"m": {"scalars": {"a": null}}}}',
    '"n": []', '"n": {"scalars": []}', '"a": {"scalars": {"z": 1}}',
]  # fmt: skip


def outcome(kind: type[TaskMetadata], document: str | bytes) -> object:
    try:
        found = kind.from_json(document)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        return type(error).__name__, str(error)
    return repr(found.to_json_form()), list(found)


@pytest.mark.parametrize("scalars", _SCALARS)
@pytest.mark.parametrize("arrays", _ARRAYS)
def test_what_is_metadata_does_not_depend_on_the_way_they_are_read(scalars: str, arrays: str) -> None:
    for levels in _LEVELS:
        text = f'{{"scalars": {{{scalars}}}, "arrays": {{{arrays}}}, "metadata": {{{levels}}}}}'
        for document in (text, text.encode(), f" {text}\n"):
            assert outcome(TaskMetadata, document) == outcome(Slowly, document)


@pytest.mark.parametrize(
    "document",
    ["", "{}", "[]", "1", "null", '{"scalars": {}}', '{"scalars": {"a": 1}}', '{"metadata": {"a": {}}}', '{"more": {}}',
     '{"scalars": {"a": 1}, "more": {}}', '{"scalars": null}', '{"scalars": {"a": 1}} {}', "\ufeff{}", '{"scalars": 1}',
     '{"scalars": {"a": 1}, "scalars": {"b": 2}}', '{"metadata": {"a": ' * 5000, '{"scalars": {"a": "\ud800"}}',
     '{"scalars": {"a": 1}}'.encode("utf-16"),
     '{"scalars": {"a": 1}}'.encode("utf-8-sig"), b'{"scalars": {"\xff": 1}}'],
    ids=range(20),
)  # fmt: skip
def test_other_documents_are_judged_alike(document: str | bytes) -> None:
    assert outcome(TaskMetadata, document) == outcome(Slowly, document)
