from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path

import dask
import pytest

from runmem.errors import SettingError
from runmem.settings import Settings, environment_variables, option_name, resolve
from runmem.units import GIB, MIB

# field: (written in the configuration, in the environment, on the command line), each with what it becomes
VALUES = {
    "python_memory_profile": ((True, True), ("no", False), (True, True)),
    "memory_interval_s": ((0.5, 0.5), ("0.25", 0.25), ("2", 2.0)),
    "memory_metric": (("pss", "pss"), ("uss", "uss"), ("rss", "rss")),
    "workers": ((3, 3), ("4", 4), ("5", 5)),
    "worker_memory_bytes": (("1GiB", GIB), ("500 MiB", 500 * MIB), ("2G", 2 * GIB)),
    "scheduler": (("tcp://a:1", "tcp://a:1"), ("b:2", "b:2"), ("tls://[::1]:3", "tls://[::1]:3")),
    "scheduler_file": (("a", Path("a")), ("b", Path("b")), ("~/c", Path.home() / "c")),
    "hosts": (("a", "a"), ("a,b", "a,b"), ("me@c, d", "me@c, d")),
    "cluster": (("local", "local"), ("ssh", "ssh"), ("slurm", "slurm")),
    "remote_python": (("python3", "python3"), ("/a/python", "/a/python"), ("/b c/python", "/b c/python")),
    "ssh_command": (("ssh -4", "ssh -4"), ("ssh -p 2", "ssh -p 2"), ("/a/ssh", "/a/ssh")),
    "master_address": (("a", "a"), ("10.0.0.5:8786", "10.0.0.5:8786"), ("[fe80::1]:3", "[fe80::1]:3")),
    "tls_ca": (("a", Path("a")), ("b", Path("b")), ("~/c", Path.home() / "c")),
    "tls_cert": (("a", Path("a")), ("b", Path("b")), ("~/c", Path.home() / "c")),
    "tls_key": (("a", Path("a")), ("b", Path("b")), ("~/c", Path.home() / "c")),
    "insecure": ((True, True), ("no", False), (True, True)),
    "profile_peak": (("on", True), ("0", False), (True, True)),
    "memray": (("a", ("a",)), ("a,b.c", ("a", "b.c")), (["a"], ("a",))),
    "log_level": (("info", "info"), ("debug", "debug"), ("off", "off")),
    "env_script": (("a.sh", Path("a.sh")), ("b.sh", Path("b.sh")), ("~/c.sh", Path.home() / "c.sh")),
    "run_folder": (("a", Path("a")), ("b", Path("b")), ("c", Path("c"))),
    "worker_profile_path": (("a", Path("a")), ("b", Path("b")), ("c", Path("c"))),
    "spool_size_bytes": (("64KiB", 65536), ("2 MiB", 2 * MIB), ("1G", GIB)),
    "task_timeout_s": (("3600", 3600.0), (90, 90.0), ("0.5", 0.5)),
    "on_memory": (("fail", "fail"), ("retry_alone", "retry_alone"), ("retry_larger", "retry_larger")),
    "sequential": (("yes", True), ("0", False), (True, True)),
    "inputs": (("copied", "copied"), ("shared", "shared"), ("copied", "copied")),
    "observers": (("a:B", ("a:B",)), ("a:B,c.d:E.F", ("a:B", "c.d:E.F")), (["a:B"], ("a:B",))),
    "probes": (("a:B", ("a:B",)), ("a:B,c.d:E.F", ("a:B", "c.d:E.F")), (["a:B"], ("a:B",))),
    "graph": ((True, True), ("no", False), (True, True)),
    "implicit_sync": (("yes", True), ("0", False), (True, True)),
    "nested": (("on", True), ("off", False), (True, True)),
    "pythonpath": (("a:/b c", ("a", "/b c")), ("a", ("a",)), (["a"], ("a",))),
    "wall_clock_limit_s": (("3600", 3600.0), (90, 90.0), ("0.5", 0.5)),
    "memory_aware": ((True, True), ("no", False), (True, True)),
    "memory_from": (("a", Path("a")), ("b", Path("b")), ("~/c", Path.home() / "c")),
    "malloc_trim": (("on", True), ("0", False), (True, True)),
}
FIELDS = {field.name: field for field in fields(Settings)}


def test_every_setting_is_in_this_test():
    assert VALUES.keys() == FIELDS.keys()


@pytest.mark.parametrize("name", VALUES)
def test_the_command_line_outranks_the_environment_and_that_the_configuration(name):
    (written, configured), (exported, in_environment), (typed, given) = VALUES[name]
    variable = environment_variables(FIELDS[name])[0]
    assert getattr(resolve({}, {}), name) == FIELDS[name].default
    with dask.config.set({f"runmem.{option_name(FIELDS[name])}": written}):
        assert getattr(resolve({}, {}), name) == configured
        assert getattr(resolve({}, {variable: exported}), name) == in_environment
        assert getattr(resolve({name: typed}, {variable: exported}), name) == given


@pytest.mark.parametrize("name", VALUES)
def test_an_option_that_was_not_given_and_an_empty_variable_count_as_nothing(name):
    variable = environment_variables(FIELDS[name])[0]
    assert getattr(resolve({name: None}, {variable: ""}), name) == FIELDS[name].default


def test_the_environment_of_the_process_is_read(monkeypatch):
    monkeypatch.setitem(os.environ, "RUNMEM_WORKERS", "7")
    assert resolve({}).workers == 7


def test_placement_by_memory_implies_that_it_is_measured():
    for given in ({"memory_aware": True}, {"memory_from": "a"}):
        settings = resolve({**given, "python_memory_profile": False}, {})
        assert (settings.memory_aware, settings.python_memory_profile) == (True, True)


def test_the_variable_of_pycompss_gives_way_to_that_of_runmem():
    assert resolve({}, {"COMPSS_WORKER_PROFILE_PATH": "theirs"}).worker_profile_path == Path("theirs")
    both = {"COMPSS_WORKER_PROFILE_PATH": "theirs", "RUNMEM_WORKER_PROFILE_PATH": "ours"}
    assert resolve({}, both).worker_profile_path == Path("ours")


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("python_memory_profile", "perhaps", "true or false"),
        ("memory_interval_s", "0", "from 0.01 to 3600"),
        ("memory_interval_s", "-1", "from 0.01 to 3600"),
        ("memory_interval_s", "nan", "from 0.01 to 3600"),
        ("memory_interval_s", "soon", "a number of seconds"),
        ("memory_interval_s", True, "a number of seconds"),
        ("workers", "0", "a whole number, 1 or more"),
        ("workers", "2.5", "a whole number"),
        ("workers", "many", "a whole number"),
        ("workers", "inf", "a whole number"),
        ("workers", [2], "a whole number"),
        ("worker_memory_bytes", "lots", "write a number and a unit"),
        ("worker_memory_bytes", "1MiB", "at least 100MiB"),
        ("worker_memory_bytes", float("inf"), "infinity"),
        ("scheduler", "somewhere", "an address such as tcp://"),
        ("log_level", "loud", "one of off, info, debug"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_its_place(name, value, complaint):
    option, variable = option_name(FIELDS[name]), environment_variables(FIELDS[name])[0]
    key = f"runmem.{option_name(FIELDS[name])}"
    with pytest.raises(SettingError, match=complaint) as typed:
        resolve({name: value}, {})
    assert str(typed.value).startswith(f"--{option}: {value!r} cannot be used: ")
    with pytest.raises(SettingError, match=f"^environment variable {variable}: "):
        resolve({}, {variable: value})
    with dask.config.set({key: value}), pytest.raises(SettingError, match=f"^dask configuration {key}: "):
        resolve({}, {})
    assert typed.value.exit_code == 2


def test_a_setting_that_does_not_exist_is_refused_with_the_list_of_those_that_do():
    with pytest.raises(SettingError, match=r"unknown setting 'wokers'.*workers"):
        resolve({"wokers": 2}, {})
    with dask.config.set({"runmem.wokers": 2}), pytest.raises(SettingError, match=r"runmem.wokers: .*\bworkers\b"):
        resolve({}, {})
    with dask.config.set({"runmem": 3}), pytest.raises(SettingError, match="3 is not a mapping"):
        resolve({}, {})


def test_dashes_in_the_configuration_are_underscores():
    with dask.config.set({"runmem": {"worker-memory": "1GiB"}}):
        assert resolve({}, {}).worker_memory_bytes == GIB


def test_the_description_is_json_with_every_setting():
    described = Settings(run_folder=Path("x")).describe()
    assert described.keys() == FIELDS.keys()
    assert json.loads(json.dumps(described))["run_folder"] == "x"


def test_a_setting_has_one_name_wherever_it_is_given():
    for setting in FIELDS.values():
        option = option_name(setting)
        assert environment_variables(setting)[0] == f"RUNMEM_{option.upper()}"
        assert setting.metadata["help"].endswith(".")
        (_, _), (_, _), (typed, given) = VALUES[setting.name]
        assert getattr(resolve({option: typed}, {}), setting.name) == given
