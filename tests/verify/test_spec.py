from __future__ import annotations

import pytest

from runmem.errors import SettingError
from runmem.verify.quantity import Quantity, UnitError
from runmem.verify.spec import ThresholdSpecification
from runmem.verify.spec_set import SpecificationSet

MIB = 2**20


@pytest.mark.parametrize(
    ("text", "name", "passes", "fails"),
    [
        ("demo.Peak<500 MiB", "demo.Peak.less_than", 500 * MIB - 1, 500 * MIB),
        ("demo.Peak <= 500MiB", "demo.Peak.at_most", 500 * MIB, 500 * MIB + 1),
        ("demo.Peak>500 MB", "demo.Peak.more_than", 500_000_001, 500_000_000),
        ("demo.Peak>=1.5 kB", "demo.Peak.at_least", 1500, 1499),
        ("demo.Peak==1 GiB", "demo.Peak.equal_to", 1024 * MIB, 1024 * MIB - 1),
        ("demo.Peak!=1e3 byte", "demo.Peak.not_equal_to", 999, 1000),
        ("demo.Peak.design<1 TiB", "demo.Peak.design", 5, 2**40),
    ],
)
def test_a_text_is_a_specification(text, name, passes, fails):
    spec = ThresholdSpecification.parse(text)
    assert (spec.name, spec.metric_name) == (name, "demo.Peak")
    assert spec.check(Quantity(passes, "byte"))
    assert not spec.check(Quantity(fails, "byte"))
    assert ThresholdSpecification.deserialize(**spec.json) == spec


def test_a_metric_without_package_takes_the_one_given():
    assert ThresholdSpecification.parse("Peak<1 MiB", "demo").name == "demo.Peak.less_than"
    with pytest.raises(SettingError, match="package"):
        ThresholdSpecification.parse("Peak<1 MiB")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("demo.Peak", "is not a specification.*for example"),
        ("demo.Peak=5 MiB", "is not a specification"),
        ("demo.Peak<", "is not a specification"),
        ("demo.Peak<many MiB", "is not a specification"),
        ("demo.Peak<nan MiB", "is not a specification"),
        ("demo.Peak<1e999 MiB", "not a finite number"),
        ("demo.Peak<5 bytes", "write 'byte'"),
        ("demo.Peak<5 KB", "write 'kB'"),
        ("demo.Peak<5 M", "write 'MiB'"),
        ("demo.Peak<5 Mb", "the b is a bit: write MB"),
        ("demo.Peak<5 mb", "write MB"),
        ("demo.Peak<5 Gib", "write GiB"),
        ("a.b.c.d<5 MiB", "not a name"),
    ],
)
def test_an_invalid_specification_text_raises_with_the_form(text, message):
    with pytest.raises(SettingError, match=message):
        ThresholdSpecification.parse(text)


def test_another_kind_of_quantity_cannot_be_compared():
    with pytest.raises(UnitError, match=r"demo\.Peak\.less_than < 5 MiB.*in s"):
        ThresholdSpecification.parse("demo.Peak<5 MiB").check(Quantity(1, "s"))
    with pytest.raises(UnitError, match="no unit"):
        ThresholdSpecification.parse("demo.Peak<500").check(Quantity(1, "byte"))


def test_astropys_quantities_are_compared_too():
    units = pytest.importorskip("astropy.units", reason="astropy is not installed")
    spec = ThresholdSpecification("p.Shift.design", 5 * units.marcsec, "<", tags="LPM-17")
    assert spec.check(4e-3 * units.arcsec)
    assert not spec.check(6e-3 * units.arcsec)
    assert (spec.threshold, spec.tags) == (5 * units.marcsec, {"LPM-17"})


def test_an_unknown_operator_lists_those_there_are():
    with pytest.raises(SettingError, match="'=>' is not an operator; there are <, <="):
        ThresholdSpecification("p.A.x", Quantity(1, "byte"), "=>")


PACKAGE = """\
id: base
threshold: {operator: "<=", unit: MiB}
tags: [base]
---
name: Peak.design
base: "#base"
threshold: {value: 100}
tags: [design]
---
name: stretch
base: [Peak.design]
threshold: {value: 50}
metadata_query: {filter: r}
"""


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "specs" / "demo" / "deep"
    folder.mkdir(parents=True)
    (folder / "memory.yaml").write_text(PACKAGE)
    return tmp_path


def test_a_package_of_specifications_is_read_with_what_they_inherit(package):
    specs = SpecificationSet.load_metrics_package(package)
    assert {name: spec.test for name, spec in specs.items()} == {
        "demo.Peak.design": "<= 100 MiB", "demo.Peak.stretch": "<= 50 MiB",
    }  # fmt: skip
    assert specs["demo.Peak.stretch"].tags == {"base", "design"}
    assert sorted(specs.subset("demo.Peak", {"filter": "g"})) == ["demo.Peak.design"]
    assert sorted(specs.subset(spec_tags=["design"])) == ["demo.Peak.design", "demo.Peak.stretch"]
    assert dict(SpecificationSet.deserialize(specs.json)) == dict(specs)
    assert len(SpecificationSet.load_metrics_package(package, subset="gone")) == 0


def test_a_single_file_names_its_metrics_in_full(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text("- {name: a.Peak.x, threshold: {value: 1, unit: GiB, operator: '<'}}\n"
                    "- {name: Peak.y, threshold: {value: 2, unit: GiB, operator: '<'}}\n")  # fmt: skip
    assert sorted(SpecificationSet.load_file(path, "b")) == ["a.Peak.x", "b.Peak.y"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text", "expected a specification"),
        ("name: a.b.c", "threshold|missing"),
        ("{name: a.b.c, threshold: {unit: s, operator: '<'}}", "has no value"),
        ("{name: a.b.c, threshold: {value: x, unit: s, operator: '<'}}", "'x' is not a finite number"),
        ("{name: a.b.c, threshold: {value: 1, unit: s, operator: '~'}}", "is not an operator"),
        ("{name: a.b.c, base: '#gone', threshold: {value: 1, unit: s, operator: '<'}}", "'limits#gone'.* not exist"),
        ("{name: a.b.c, base: a.b.c}", "inherits from itself"),
        ("{name: x, threshold: {value: 1, unit: s, operator: '<'}}", "name"),
    ],
)
def test_a_specification_that_is_not_valid_is_named_with_its_file(tmp_path, text, message):
    path = tmp_path / "limits.yaml"
    path.write_text(text + "\n")
    with pytest.raises(SettingError, match=rf"limits\.yaml.*{message}"):
        SpecificationSet.load_file(path)
