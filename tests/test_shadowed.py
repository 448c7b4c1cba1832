"""Import statements find the program's or the library's module, depending on the importing code."""

from __future__ import annotations

import builtins
import importlib
import json
import os
import pickle
import site
import sys
import sysconfig
import threading
from importlib.machinery import ModuleSpec

import pytest

from runmem import shadowed
from runmem.serialization.pickling import dumps
from runmem.shadowed import (
    ReservedNameError,
    Shadowing,
    current_shadowing,
    library_module,
    reduce_shadowed,
    shadow,
    stop_shadowing,
)

LIBRARY = {"__name__": "a_library", "__file__": os.path.join(sysconfig.get_path("stdlib"), "a_library.py")}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the folder of a program; remove its imported modules afterwards."""
    before = dict(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    be_another_process()
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]
    sys.modules.update(before)


def write(folder, *names):
    for name in names:
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine = __name__\nclass Thing:\n    mine_too = __name__\ndef thing():\n    return Thing()\n")
    importlib.invalidate_caches()


def be_another_process():
    stop_shadowing(forget=True)


def run(names, source):
    """Run source as code of a module with these globals, and return the resulting names."""
    names = dict(names)
    exec(source, names)
    return names


def run_in_program(folder, source):
    return run({"__name__": "__main__", "__file__": str(folder / "app.py")}, source)


def test_nothing_is_changed_where_no_module_has_the_name_of_a_librarys(folder):
    write(folder, "app", "helpers", "parts/__init__")
    plain = builtins.__import__, importlib.import_module, list(sys.meta_path)
    shadow(Shadowing(str(folder)))
    shadow(None)
    assert (builtins.__import__, importlib.import_module, sys.meta_path) == plain
    assert current_shadowing() is None
    assert current_shadowing(str(folder)) is None


@pytest.mark.parametrize("name", ["queue", "json", "click", "wave"])
def test_the_program_finds_its_module_and_a_library_the_librarys(folder, name):
    write(folder, name)
    shadow(Shadowing(str(folder)))
    for _ in range(2):
        assert run_in_program(folder, f"import {name}")[name].mine == name
        found = run(LIBRARY, f"import {name}")[name]
        assert not hasattr(found, "mine")
        assert run(LIBRARY, f"from {name} import *").keys() & vars(found).keys()
    assert pickle.loads(pickle.dumps(sys.modules[name].Thing())).__class__ is sys.modules[name].Thing
    assert library_module(name) is found


def test_a_module_that_the_program_does_not_import_is_in_nobodys_way(folder):
    write(folder, "queue", "wave", "psutil")
    queue = sys.modules["queue"]
    sys.modules.pop("wave", None)
    shadow(Shadowing(str(folder)))
    assert run(LIBRARY, "import queue")["queue"] is queue is sys.modules["queue"] is library_module("queue")
    assert hasattr(run(LIBRARY, "import wave")["wave"], "open")
    assert current_shadowing() == Shadowing(str(folder))


@pytest.mark.parametrize("own", ["json", "json/__init__"])
def test_a_library_finds_what_is_below_a_name_that_the_program_has_taken(folder, own):
    write(folder, own, "json/tool")
    sys.modules.pop("json.tool", None)
    shadow(Shadowing(str(folder)))
    mine = run_in_program(folder, "import json")["json"]
    for statement in ("from json.tool import main", "from json import tool; main = tool.main"):
        assert run(LIBRARY, statement)["main"].__module__ == "json.tool"
        assert sys.modules["json"] is mine
    assert run(LIBRARY, "import json.tool")["json"] is json
    inside = {"__name__": "json.encoder", "__package__": "json", "__file__": json.encoder.__file__}
    assert run(inside, "from . import decoder")["decoder"] is json.decoder
    assert run(inside, "from .tool import main")["main"].__module__ == "json.tool"
    if own != "json":
        assert run_in_program(folder, "from json import tool")["tool"].mine == "json.tool"
        assert run(LIBRARY, "from json import tool")["tool"].main


def test_import_module_looks_at_who_asks_too(folder):
    write(folder, "queue")
    shadow(Shadowing(str(folder)))
    source = "import importlib; found = importlib.import_module('queue')"
    assert run_in_program(folder, source)["found"].mine == "queue"
    assert not hasattr(run(LIBRARY, source)["found"], "mine")
    inside = {**LIBRARY, "__name__": "json", "__package__": "json"}
    source = "import importlib; found = importlib.import_module('.decoder', 'json')"
    assert run(inside, source)["found"] is json.decoder


def test_a_library_does_not_find_the_programs_module_for_one_that_is_not_there(folder):
    write(folder, "winreg")
    shadow(Shadowing(str(folder)))
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="No module named 'winreg'"):
            run(LIBRARY, "import winreg")
        assert run_in_program(folder, "import winreg")["winreg"].mine == "winreg"


def test_an_environment_in_the_programs_folder_is_a_librarys_and_a_program_among_libraries_is_none(folder, monkeypatch):
    environment = f"{folder}/.venv/lib/site-packages/"
    os.makedirs(environment)
    monkeypatch.setattr(site, "getsitepackages", lambda: [environment, str(folder.parent)])
    be_another_process()
    write(folder, "queue")
    shadow(Shadowing(str(folder)))
    assert run_in_program(folder, "import queue")["queue"].mine == "queue"
    for file, is_library in {
        f"{environment}some/package.py": True,
        f"{folder}/parts/part.py": False,
        f"{folder.parent}/other/package.py": True,
        "/somewhere/else.py": False,
        shadowed.__file__: True,
    }.items():
        found = run({"__name__": "asks", "__file__": file}, "import queue")["queue"]
        assert hasattr(found, "mine") is not is_library, file
    frozen = {"__name__": "zipimport", "__spec__": ModuleSpec("zipimport", None, origin="frozen")}
    assert not hasattr(run(frozen, "import queue")["queue"], "mine")


def test_another_process_is_told_what_the_program_has_imported(folder):
    write(folder, "queue", "wave", "calendar")
    shadow(Shadowing(str(folder)))
    run_in_program(folder, "import queue, calendar")
    told = pickle.loads(pickle.dumps(current_shadowing()))
    assert told == Shadowing(str(folder), ("queue", "calendar"))
    be_another_process()
    for name in told.imported:
        sys.modules.pop(name, None)
    shadow(told)
    assert pickle.loads(b"cqueue\nThing\n.").__module__ == "queue"  # no import statement comes before
    assert current_shadowing() == told


def test_a_pickle_finds_what_the_program_means_whoever_reads_it(folder):
    write(folder, "queue", "calendar")
    shadow(Shadowing(str(folder), ("queue",)))
    sys.modules.pop("queue", None)
    assert run(LIBRARY, "import pickle; found = pickle.loads(b'cqueue\\nThing\\n.')")["found"].mine_too == "queue"
    mine = run_in_program(folder, "import calendar")["calendar"]
    own = {"module": mine, "class": mine.Thing, "function": mine.thing, "value": mine.thing()}
    real = run(LIBRARY, "import calendar")["calendar"]
    library = {"class": real.Calendar, "function": real.isleap}
    data = dumps(own)
    be_another_process()
    sys.modules.pop("calendar", None)
    shadow(Shadowing(str(folder)))
    again = pickle.loads(data)
    assert current_shadowing() == Shadowing(str(folder), ("calendar",))
    mine = run_in_program(folder, "import calendar")["calendar"]
    assert again["module"] is mine
    assert (again["class"], again["function"], type(again["value"])) == (mine.Thing, mine.thing, mine.Thing)
    assert reduce_shadowed(mine.Thing) is not None
    assert [reduce_shadowed(each) for each in (*library.values(), run, 3)] == [None] * 4


def test_what_was_imported_is_put_back(folder):
    write(folder, "queue")
    queue, plain = sys.modules["queue"], (builtins.__import__, importlib.import_module)
    shadow(Shadowing(str(folder), ("queue",)))
    assert run_in_program(folder, "import queue")["queue"] is not queue
    stop_shadowing()
    stop_shadowing()
    assert sys.modules["queue"] is queue
    assert (builtins.__import__, importlib.import_module) == plain


def test_a_worker_that_serves_two_runs_of_a_program_has_its_modules_once(folder):
    write(folder, "queue")
    shadow(Shadowing(str(folder), ("queue",)))
    mine = run_in_program(folder, "import queue")["queue"]
    stop_shadowing()
    write(folder, "calendar")  # between the runs
    shadow(Shadowing(str(folder)))
    assert sys.modules["queue"] is mine
    assert not hasattr(run(LIBRARY, "import queue")["queue"], "mine")
    assert run_in_program(folder, "import calendar")["calendar"].mine == "calendar"


def test_another_folder_takes_the_place_of_the_first(folder):
    write(folder, "one/queue", "two/wave")
    shadow(Shadowing(str(folder / "one"), ("queue",)))
    shadow(Shadowing(str(folder / "two"), ("wave",)))
    assert current_shadowing() == Shadowing(str(folder / "two"), ("wave",))
    assert not hasattr(sys.modules["queue"], "mine")
    shadow(None)
    assert current_shadowing() is None


@pytest.mark.parametrize("name", ["psutil", "dask", "ssl", "runmem"])
def test_a_name_that_cannot_be_had_is_refused_with_the_file_and_the_remedy(folder, name):
    write(folder, name)
    shadow(Shadowing(str(folder)))
    with pytest.raises(ReservedNameError, match=rf"imports {folder}/{name}.py, .* {name} .*: rename the program's"):
        run_in_program(folder, f"import {name}")
    assert not hasattr(run(LIBRARY, f"import {name}")[name], "mine")


def test_a_module_that_everybody_has_from_there_already_stays_so(folder):
    """PYTHONPATH contains the folder, or runmem runs from sources in it."""
    write(folder, "wave")
    sys.modules.pop("wave", None)
    importlib.import_module("wave")
    assert current_shadowing(str(folder)) is None
    del sys.modules["wave"]
    assert current_shadowing(str(folder)) == Shadowing(str(folder))


def test_threads_that_import_for_the_first_time_each_find_their_own(folder):
    """First imports by a library and by the program run in parallel, each of a name that the other imports next."""
    names = ["wave", "colorsys", "calendar", "queue", "json", "csv", "cmd"]
    write(folder, *names)
    for name in names:
        sys.modules.pop(name, None)
    shadow(Shadowing(str(folder)))
    problems = []

    def ask(turn):
        for name in [*names[turn:], *names[:turn]]:
            for _ in range(20):
                if run_in_program(folder, f"import {name} as found")["found"].mine != name:
                    problems.append(("program", name))
                if hasattr(run(LIBRARY, f"import {name} as found")["found"], "mine"):
                    problems.append(("library", name))

    threads = [threading.Thread(target=ask, args=(turn,)) for turn in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert problems == []
