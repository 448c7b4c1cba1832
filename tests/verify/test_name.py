from __future__ import annotations

import copy
import pickle

import pytest

from runmem.verify.name import Name


@pytest.mark.parametrize(
    "name",
    [
        Name("demo.Peak.design"),
        Name("demo", "Peak", "design"),
        Name(package="demo", spec="Peak.design"),
        Name(metric="demo.Peak", spec="design"),
        Name("demo", spec="demo.Peak.design"),
        Name(Name(spec="demo.Peak.design")),
        Name(metric=Name("demo.Peak"), spec=Name(metric="Peak", spec="design")),
    ],
)
def test_the_parts_join_to_one_name_however_they_are_given(name):
    assert name == "demo.Peak.design"
    assert (name.package, name.metric, name.spec, name.is_spec) == ("demo", "Peak", "design", True)
    assert name.metric_name == "demo.Peak"
    assert name.metric_name.is_metric
    assert (name.fqn, name.relative_name) == ("demo.Peak.design", "Peak.design")


@pytest.mark.parametrize(
    ("inner", "outer", "is_in"),
    [
        (Name("demo.Peak.design"), Name("demo.Peak"), True),
        (Name("demo.Peak.design"), Name("demo"), True),
        (Name("demo.Peak"), Name("demo"), True),
        ("demo.Peak", Name("demo"), True),
        (Name("demo.Peak.design"), Name("demo.Pea"), False),
        (Name("demo.Peak"), Name("demo.Peak"), False),
        (Name("demo"), Name("demo"), False),
        (Name("demo"), Name("demo.Peak"), False),
        (Name("demo.Peak"), Name("demo.Peak.design"), False),
        (Name(spec="Peak.design"), Name(metric="Peak"), True),
        (Name("demo.Peak.design"), Name(metric="Peak"), False),
        (Name(spec="Peak.design"), Name("Peak"), False),
        ("not a name", Name("demo"), False),
    ],
)
def test_a_name_contains_what_belongs_to_it(inner, outer, is_in):
    assert (inner in outer) is is_in


@pytest.mark.parametrize(
    ("name", "text", "kinds"),
    [
        (Name("demo"), "Name('demo')", "has_package is_package is_fq"),
        (Name("demo.Peak"), "Name('demo', 'Peak')", "has_package has_metric is_metric is_fq"),
        (Name(metric="Peak"), "Name(metric='Peak')", "has_metric is_metric"),
        (Name(spec="design"), "Name(spec='design')", "has_spec is_spec"),
        (Name(spec="Peak.design"), "Name(metric='Peak', spec='design')",
         "has_metric has_spec has_relative is_spec is_relative"),
        (Name("a.b.c"), "Name('a', 'b', 'c')", "has_package has_metric has_spec has_relative is_spec is_fq"),
    ],
)  # fmt: skip
def test_a_name_knows_its_kind_and_survives_pickling(name, text, kinds):
    every = ("has_package", "has_metric", "has_spec", "has_relative", "is_package", "is_metric", "is_spec", "is_fq",
             "is_relative")  # fmt: skip
    assert [kind for kind in every if getattr(name, kind)] == sorted(kinds.split(), key=every.index)
    assert repr(name) == text
    for again in (pickle.loads(pickle.dumps(name)), copy.deepcopy(name)):
        assert (again, repr(again)) == (name, text)


def test_names_of_different_kinds_are_unequal_but_equal_the_text():
    assert Name(metric="Peak") != Name("Peak")
    assert Name(metric="Peak") == "Peak" == Name("Peak")
    assert {Name("demo.Peak"): 1}["demo.Peak"] == 1


@pytest.mark.parametrize(
    ("name", "attribute", "message"),
    [
        (Name(metric="Peak"), "fqn", "has no package"),
        (Name(spec="design"), "fqn", "has no metric"),
        (Name("demo.Peak"), "relative_name", "does not name a specification"),
        (Name(spec="design"), "relative_name", "does not name"),
    ],
)
def test_a_form_that_a_name_lacks_is_refused(name, attribute, message):
    with pytest.raises(AttributeError, match=message):
        getattr(name, attribute)


@pytest.mark.parametrize("error", [ValueError, TypeError])
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"package": "demo", "spec": "design"}, "has no metric"),
        ({"package": "demo", "metric": "other.Peak"}, "contradicts 'demo'"),
        ({"metric": "a.b.c"}, "of a specification, not of a metric"),
        ({"metric": Name(spec="design")}, "not the name of a metric"),
        ({"spec": Name("demo.Peak")}, "not the name of a specification"),
        ({"package": "a b"}, "is not a name"),
        ({"package": "a..b"}, "is not a name"),
        ({"package": "a.b.c.d"}, "is not a name"),
        ({}, "is not a name"),
    ],
)
def test_invalid_names_are_refused(parts, message, error):
    with pytest.raises(error, match=message):
        Name(**parts)
