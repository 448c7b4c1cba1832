from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

import runmem
from runmem.graph.future import Future
from runmem.pycompss.install import install, installed


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Begin and end with a Python that has never heard of PyCOMPSs."""
    theirs = lambda name: name == "pycompss" or name.startswith("pycompss.")  # noqa: E731
    kept = {name: sys.modules.pop(name) for name in [name for name in sys.modules if theirs(name)]}
    ours = [finder for finder in sys.meta_path if type(finder).__module__ == install.__module__]
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if finder not in ours])
    alias = os.path.join("runmem", "pycompss", "alias")
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if not folder.endswith(alias)])
    yield
    for name in [name for name in sys.modules if theirs(name)]:
        del sys.modules[name]
    sys.modules.update(kept)


NAMES = {
    "pycompss.api.task": {"task": runmem.task, "Task": runmem.task},
    "pycompss.api.parameter": {
        name: getattr(runmem, name)
        for name in ("IN", "OUT", "INOUT", "IN_DELETE", "FILE_IN", "FILE_OUT", "FILE_INOUT", "COLLECTION_IN")
    }
    | {"StdIOStream": "stream", "Stream": "stream"},
    "pycompss.api.api": {
        "compss_wait_on": runmem.wait_on,
        "compss_barrier": runmem.barrier,
        "compss_open": runmem.open_file,
        "compss_wait_on_file": runmem.wait_on_file,
    },
    "pycompss.functions.profile": {"profile": runmem.profile},
    "pycompss.runtime.management.classes": {"Future": Future},
    "pycompss.runtime.binding": {"Future": Future},
}


@pytest.mark.parametrize("module", NAMES)
def test_the_names_of_pycompss_are_runmem_s_own(module):
    install()
    found = importlib.import_module(module)
    assert {name: getattr(found, name) for name in NAMES[module]} == NAMES[module]


@pytest.mark.parametrize("module", NAMES)
def test_the_module_is_the_same_under_both_names_and_stays_what_it_was(module):
    install()
    found = importlib.import_module(module)
    ours = "runmem." + module
    assert found is sys.modules[ours]
    assert (found.__name__, found.__spec__.name) == (ours, ours)
    assert importlib.reload(found) is found


def test_every_public_name_is_there():
    install()
    for module in NAMES:
        found = importlib.import_module(module)
        assert set(found.__all__) <= set(vars(found))


def test_a_parent_knows_its_modules():
    install()
    import pycompss.api.task

    assert pycompss.api.task.task is runmem.task


@pytest.mark.parametrize("missing", ["pycompss.api.nothing", "pycompss.nothing", "pycompss.api.task.nothing"])
def test_a_missing_module_is_named_with_those_that_exist(missing):
    install()
    with pytest.raises(ModuleNotFoundError) as raised:
        importlib.import_module(missing)
    assert raised.value.name == missing
    if not missing.startswith("pycompss.api.task"):
        assert f"{missing} is not offered by runmem" in str(raised.value)
        assert all(module in str(raised.value) for module in NAMES)


def test_without_install_there_is_none():
    assert not installed()
    alone = subprocess.run([sys.executable, "-I", "-c", "import pycompss"], capture_output=True, text=True, check=False)
    assert alone.returncode == 1
    assert "No module named 'pycompss'" in alone.stderr


def test_installing_twice_is_installing_once():
    before = len(sys.meta_path)
    install()
    install()
    assert len(sys.meta_path) == before + 1
    assert installed()


def real_one(folder) -> None:
    (folder / "pycompss" / "api").mkdir(parents=True)
    (folder / "pycompss" / "__init__.py").write_text("REAL = True\n")
    (folder / "pycompss" / "api" / "__init__.py").touch()
    (folder / "pycompss" / "api" / "task.py").write_text("task = 'the real one'\n")


def test_the_real_one_is_let_alone_where_it_is_installed(tmp_path, monkeypatch):
    real_one(tmp_path)
    install()
    monkeypatch.syspath_prepend(tmp_path)  # after install: the program's own folder comes onto the path last
    assert not installed()
    assert importlib.import_module("pycompss").REAL
    assert importlib.import_module("pycompss.api.task").task == "the real one"
    with pytest.raises(ModuleNotFoundError, match="No module named 'pycompss.api.api'"):
        importlib.import_module("pycompss.api.api")


def test_a_folder_of_that_name_without_code_is_not_the_real_one(tmp_path, monkeypatch):
    (tmp_path / "pycompss").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    install()
    assert installed()
    assert importlib.import_module("pycompss.api.task").task is runmem.task


NAMED = (
    ("from pycompss.api.api import compss_wiat_on", "pycompss.api.api.compss_wiat_on", "compss_wait_on?"),
    ("from pycompss.api.parameter import FILE_INN", "pycompss.api.parameter.FILE_INN", "FILE_IN?"),
    ("from pycompss.api import nothing_like_it", "pycompss.api.nothing_like_it", "runmem offers"),
    ("import pycompss.api.constrant", "pycompss.api.constrant", "pycompss.api.constraint?"),
)


@pytest.mark.parametrize(("statement", "missing", "there"), NAMED)
def test_a_missing_name_is_named_as_a_missing_module_is(statement: str, missing: str, there: str) -> None:
    code = (
        "from runmem.pycompss.install import install\ninstall()\n"
        f"try:\n    {statement}\nexcept ModuleNotFoundError as error:\n    print(error)"
    )
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout
    assert text.startswith(f"{missing} is not offered by runmem, and the real PyCOMPSs is not installed")
    assert there in text
