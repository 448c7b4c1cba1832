"""What `@constraint` declares, and what that is at a call."""

from __future__ import annotations

import pytest

from runmem.commands.needs import constraint, io
from runmem.errors import ArgumentError, TaskDeclarationError
from runmem.graph.constraints import Constraints, gpus_of, memory_of, units_of
from runmem.graph.task import task

UNITS = 3


def constrained(**options):
    @constraint(**options)
    @task(returns=1)
    def called(n=1, size=1.0):
        return n

    return called


def call_of(submitter, called, *args, **kwargs):
    called(*args, **kwargs)
    return submitter.calls[-1]


def test_a_task_without_constraints_needs_one_core(submitter):
    call = call_of(submitter, task(returns=1)(lambda: 1))
    assert (units_of(call), memory_of(call), gpus_of(call)) == (1, None, 0)


@pytest.mark.parametrize(
    ("options", "units", "memory"),
    [
        ({"computing_units": 2, "memory_size": 1}, 2, 10**9),
        ({"computing_units": "2", "memory_size": "0.5"}, 2, 5 * 10**8),
        ({"computingUnits": "2", "memorySize": 0.25}, 2, 25 * 10**7),
        ({"ComputingUnits": "2", "MemorySize": "1"}, 2, 10**9),
        ({"computing_units": "UNITS"}, 3, None),
        ({"computing_units": "n"}, 5, None),
        ({"computing_units": "n + UNITS", "memory_size": "size*2"}, 8, 2 * 10**9),
        ({"computing_units": "$SET", "memory_size": "${SET}"}, 4, 4 * 10**9),
        ({"computing_units": "${NOT_SET}", "memory_size": "$NOT_SET"}, 1, None),
        ({"processors": [{"processorType": "CPU", "computingUnits": "2"}]}, 2, None),
        ({"processors": [{"computingUnits": "n"}, {"ProcessorType": "CPU", "ComputingUnits": 2}]}, 7, None),
    ],
)
def test_numbers_have_many_forms(options, units, memory, submitter, monkeypatch):
    monkeypatch.setenv("SET", "4")
    call = call_of(submitter, constrained(**options), 5)
    assert (units_of(call), memory_of(call)) == (units, memory)


def test_graphics_processors_are_counted_by_themselves(submitter):
    processors = [{"processorType": "GPU", "computingUnits": "2"}, {"processorType": "CPU", "computingUnits": "1"}]
    call = call_of(submitter, constrained(processors=processors))
    assert (units_of(call), gpus_of(call)) == (1, 2)


def test_a_number_is_what_a_global_is_at_the_call(submitter, monkeypatch):
    called = constrained(computing_units="UNITS")
    for number in (1, 2):
        monkeypatch.setitem(globals(), "UNITS", number)
        assert units_of(call_of(submitter, called)) == number


def test_a_method_s_constraints_know_its_object(submitter):
    class Owner:
        units = 6

        @constraint(computing_units="self.units")
        @task(returns=1)
        def called(self):
            pass

    owner = Owner()
    owner.called()
    assert units_of(submitter.calls[-1]) == 6


def test_constraints_add_up_and_the_upper_one_counts():
    called = constraint(computing_units=2, app_software="b")(constrained(computing_units="n", memory_size=1))
    assert called.constraints == Constraints(2, 10**9, 0, (), (("app_software", "b"),))


def test_others_are_kept_as_text():
    called = constrained(
        app_software=["numpy", "scipy"], processorArchitecture="arm", memory_type="memt", is_local=True
    )
    assert dict(called.constraints.others) == {
        "app_software": "numpy,scipy", "processor_architecture": "arm", "memory_type": "memt", "is_local": "True",
    }  # fmt: skip


def test_a_task_of_io_needs_no_core(submitter):
    for decorate in (io, io()):
        assert units_of(call_of(submitter, decorate(task(returns=1)(lambda: 1)))) == 0


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"computing_units": "two words"}, "computing_units='two words' is not a whole number"),
        ({"computing_units": 1.5}, "computing_units=1.5 is not a whole number"),
        ({"computing_units": -1}, "is not a whole number"),
        ({"computing_units": True}, "is not a whole number"),
        ({"computing_units": [1]}, "is not a whole number"),
        ({"computing_units": "$BAD"}, "is not a whole number"),
        ({"memory_size": "2GB"}, "memory_size='2GB' is not an amount of memory in GB"),
        ({"memory_size": 0}, "is not an amount of memory"),
        ({"memory_size": "inf"}, "is not an amount of memory"),
        ({"processors": {"computingUnits": 1}}, "is not a list of dictionaries"),
        ({"processors": [{"computingUnits": "1.5"}]}, "is not a whole number"),
    ],
)
def test_what_is_no_number_is_an_error_at_decoration(options, what, monkeypatch):
    monkeypatch.setenv("BAD", "-3")
    with pytest.raises(TaskDeclarationError, match=rf"@constraint on .*called \(.*test_constraints.py:\d+\).*{what}"):
        constrained(**options)


@pytest.mark.parametrize(
    ("expression", "argument", "what"),
    [("nothing", 1, "NameError"), ("n", "text", "ValueError"), ("n", 1.5, "gives 1.5"), ("n", None, "TypeError")],
)
def test_an_expression_that_gives_no_number_is_an_error_of_the_call(expression, argument, what, submitter):
    call = call_of(submitter, constrained(computing_units=expression), argument)
    with pytest.raises(ArgumentError, match=rf"call of .*called \(.*py:\d+\): computing_units='{expression}'.*{what}"):
        units_of(call)


def test_a_variable_that_changes_after_the_decoration_counts_at_the_call(submitter, monkeypatch):
    monkeypatch.setenv("SET", "4")
    call = call_of(submitter, constrained(computing_units="${SET}"))
    monkeypatch.setenv("SET", "2")
    assert units_of(call) == 2
    monkeypatch.setenv("SET", "-2")
    with pytest.raises(ArgumentError, match=r"computing_units='\$\{SET\}' in @constraint gives -2, which is"):
        units_of(call)


def test_it_belongs_above_a_task():
    with pytest.raises(TaskDeclarationError, match="which is not a task: write @constraint above @task"):
        constraint(computing_units=1)(lambda: 1)
