from __future__ import annotations

import pytest

from runmem.errors import TaskDeclarationError
from runmem.graph import directions
from runmem.graph.directions import FILE, FILE_INOUT, IN, INOUT, KEYS, Direction, Kind, Type, as_parameter
from runmem.graph.task import task


@pytest.mark.parametrize("name", ["IN", "OUT", "INOUT", "FILE_IN", "FILE_OUT", "FILE_INOUT", "COLLECTION_IN"])
def test_a_direction_may_be_written_as_text(name: str) -> None:
    assert as_parameter(name, "f") is getattr(directions, name)


def test_the_dictionary_form_joins_type_and_direction() -> None:
    parameter = as_parameter({Type: FILE, KEYS["Direction"]: INOUT}, "f")
    assert (parameter.kind, parameter.direction) == (Kind.FILE, Direction.INOUT)


def test_the_dictionary_form_without_a_direction_keeps_that_of_its_type() -> None:
    parameter = as_parameter({Type: FILE_INOUT}, "f")
    assert (parameter.kind, parameter.direction) == (Kind.FILE, Direction.INOUT)


def test_the_dictionary_form_may_name_only_a_direction() -> None:
    parameter = as_parameter({KEYS["Direction"]: "INOUT"}, "f")
    assert (parameter.kind, parameter.direction) == (Kind.OBJECT, Direction.INOUT)


@pytest.mark.parametrize("written", ["INN", "in", 3, None, {}, {Type: "FOLDER"}, ["IN"]])
def test_what_is_no_direction_is_refused_at_decoration_with_the_signature(written: object) -> None:
    with pytest.raises(TaskDeclarationError, match=r"@task\(data=...\) of .*f\(data, more=1\).* is not a direction"):

        @task(data=written)
        def f(data, more=1):
            return data


def test_an_unknown_parameter_is_refused_at_decoration_with_the_signature() -> None:
    with pytest.raises(TaskDeclarationError, match=r"f\(data, more=1\) has no parameter 'dta'"):

        @task(dta=INOUT)
        def f(data, more=1):
            return data


def test_a_direction_may_name_what_var_keywords_take() -> None:
    @task(total=INOUT)
    def f(**values):
        return values

    assert f.signature.use_of("total") is INOUT
    assert f.signature.use_of("other") is IN


def test_a_direction_of_var_keywords_is_that_of_each_of_them() -> None:
    @task(values=INOUT)
    def f(first, **values):
        return values

    assert f.signature.use_of("other") is INOUT
    assert f.signature.use_of("first") is IN


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TaskDeclarationError, match="IN is not a function"):
        task(IN)


def test_a_builtin_without_a_signature_is_refused() -> None:
    with pytest.raises(TaskDeclarationError, match="its signature cannot be read"):
        task(min)
