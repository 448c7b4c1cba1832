"""`@data_transformation`, `@local` and `@software`, without a running program and with one in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runmem.commands.contents import copy_contents
from runmem.commands.decorators import binary
from runmem.commands.needs import constraint, data_transformation
from runmem.commands.software import software
from runmem.commands.synchronous import local
from runmem.commands.transformations import KINDS
from runmem.errors import ArgumentError, TaskDeclarationError, TaskWarning
from runmem.graph.constraints import units_for
from runmem.graph.directions import COLLECTION_IN, FILE_IN
from runmem.graph.task import task
from runmem.pycompss.api import data_transformation as module
from runmem.pycompss.api.data_transformation import dt, dto


def appended(items, what="dt"):
    return [*items, what]


def test_the_task_gets_what_the_function_makes():
    @dt("items", appended, what="first")
    @dt("items", appended, what="{{word}}")
    @task(returns=1)
    def called(items, word, more=2):
        return [*items, more]

    assert called([0], "second") == [0, "first", "second", 2]  # from the top
    assert called(word="second", items=[0]) == [0, "first", "second", 2]


def test_a_default_can_be_transformed():
    @dt("items", appended)
    @task(returns=1)
    def called(items=(1,)):
        return items

    assert called() == [1, "dt"]


def test_a_call_may_bring_its_own():
    @dt()
    @task(returns=1)
    def called(items):
        return items

    assert called([0], dt=dto("items", appended)) == [0, "dt"]
    assert called([0], dt=[dto("items", appended, what=1), dto("items", appended, what=2)]) == [0, 1, 2]
    with pytest.raises(ArgumentError, match="is neither a dto"):
        called([0], dt="items")
    with pytest.raises(ArgumentError, match="no argument 'other'"):
        called([0], dt=dto("other", appended))


def written(value, path, mark="!"):
    Path(path).write_text(f"{value}{mark}")


def read(path):
    return Path(path).read_text()


@pytest.mark.parametrize("kind", ["OBJECT_TO_FILE", module.OBJECT_TO_FILE])
def test_an_object_becomes_a_file(kind):
    @dt(target="path", function=written, type=kind, destination="made.txt", mark="?")
    @task(path=FILE_IN, returns=1)
    def called(path):
        return path, read(path)

    assert called(5) == ("made.txt", "5?")


def test_a_file_becomes_an_object_or_a_collection():
    Path("text").write_text("a b")

    @dt(target="text", function=read, type=module.FILE_TO_OBJECT)
    @task(returns=1)
    def of_object(text):
        return text

    @dt(target="words", function=lambda path: read(path).split(), type=module.FILE_TO_COLLECTION, size=2)
    @task(words=COLLECTION_IN, returns=1)
    def of_collection(words):
        return words

    assert of_object("text") == "a b"
    assert of_collection("text") == ["a", "b"]


def test_all_kinds_have_the_numbers_of_pycompss():
    assert [getattr(module, name) for name in KINDS] == list(range(8))
    assert set(module.__all__) <= set(vars(module))


@pytest.mark.parametrize(
    ("args", "options", "what"),
    [
        (("other", appended), {}, "'other' is not a parameter"),
        (("items", "appended"), {}, "takes the name of a parameter, a function"),
        ((), {"target": "items", "function": appended, "type": 9}, "type=9"),
        ((), {"target": "items", "function": appended, "type": 2}, "needs size="),
    ],
)
def test_a_mistake_is_an_error_at_decoration(args, options, what):
    with pytest.raises(TaskDeclarationError, match=what):

        @data_transformation(*args, **options)
        @task()
        def called(items):
            pass


def test_local_is_a_plain_function_without_a_program():
    @local
    def called(first, *rest, **named):
        return first, rest, named

    assert called(1, 2, x=3) == (1, (2,), {"x": 3})
    assert called.__name__ == "called"


def test_contents_are_copied_into_what_can_be_changed():
    class Plain:
        pass

    ours, theirs = Plain(), Plain()
    theirs.x = 1
    pairs = [([1], [2, 3]), ({1: 2}, {3: 4}), ({1}, {2}), (bytearray(b"a"), bytearray(b"bc"))]
    for target, source in pairs:
        copy_contents(target, source)
        assert target == source
        assert target is not source
    copy_contents(ours, theirs)
    assert ours.x == 1
    for target, source in ((1, 2), ([1], (1,)), ((1,), (2,))):
        with pytest.raises(TypeError):
            copy_contents(target, source)


def config(**content):
    Path("config.json").write_text(json.dumps(content))
    return "config.json"


def test_a_file_says_which_command_a_task_is(capfd):
    path = config(
        execution={"type": "binary", "binary": "sh", "args": "-c 'echo {{word}}; exit 3'", "fail_by_exit_value": False},
        prolog={"binary": "echo", "args": "before"},
        epilog={"binary": "echo", "args": "after"},
        constraints={"computing_units": 2},
    )  # fmt: skip

    @software(config_file=path)
    @task(returns=int)
    def called(word):
        pass

    assert called("x y") == 3
    assert capfd.readouterr().out == "before\nx y\nafter\n"
    assert units_for(called, ("x",), {}) == 2


def test_a_file_says_what_a_task_is():
    Path("text").write_text("content")
    parameters = {"returns": "int", "path": "FILE_IN", "out": {"Type": "FILE_OUT", "stream": "stdout"}}

    @software(config(execution={"type": "binary", "binary": "cat"}, parameters=parameters))
    def called(path, out):
        pass

    @software(config(execution={"type": "task"}, parameters={"returns": 1}))
    def function():
        return 5

    @software(config(type="binary", properties={"binary": "true"}))  # as files of former versions have it
    @task(returns=1)
    def former():
        pass

    assert called("text", "out") == 0
    assert Path("out").read_text() == "content"
    assert function() == 5
    assert former() == 0


def test_a_workflow_is_a_plain_function():
    @software(config(execution={"type": "workflow"}))
    def called():
        return 7

    assert called() == 7
    assert called.__class__.__name__ == "function"


def test_a_file_that_cannot_be_read_is_an_error_of_the_call():
    @software(config_file="not-there.json")
    @task()
    def called():
        pass

    with pytest.raises(TaskDeclarationError, match="not-there.json cannot be read"):
        called()


def test_what_has_no_effect_in_a_file_is_a_warning():
    with pytest.warns(TaskWarning, match=r"config.*\.json: no effect: constraint, epilogue"):
        software(config(execution={"type": "task"}, constraint={"computing_units": 2}, epilogue={}))(lambda: None)


@pytest.mark.parametrize(
    ("content", "what"),
    [({"execution": {"type": "other"}}, "'other': one of task"), ([], "does not hold a JSON object")],
)
def test_a_file_that_says_what_cannot_be_is_an_error(content, what):
    Path("config.json").write_text(json.dumps(content))
    with pytest.raises(TaskDeclarationError, match=what):

        @software("config.json")
        @task()
        def called():
            pass


def test_decorators_can_be_in_any_order():
    @constraint(computing_units=3)
    @dt("word", str.upper)
    @binary(binary="echo", args="{{word}}")
    @task(returns=int)
    def called(word):
        pass

    assert called("x") == 0
    assert units_for(called, ("x",), {}) == 3
