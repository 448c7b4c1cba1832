"""Imports of spawned processes, on each Python version of the tests."""

from __future__ import annotations

import importlib.machinery
import inspect
import multiprocessing
import pickle
import signal
import subprocess
import sys
import textwrap
from multiprocessing import popen_forkserver, popen_spawn_posix, spawn
from pathlib import Path

import pytest

from runmem.clusters import child_imports
from runmem.clusters.child_imports import MainModule

PARENT = """
    import multiprocessing, sys
    from runmem.clusters.child_imports import patch_spawn, add_import_folder

    def where():
        main = sys.modules["__main__"]
        print(multiprocessing.current_process().name, hasattr(main, "MARK"), "/nowhere/at/all" in sys.path, flush=True)

    MARK = True
    if __name__ == "__main__":
        import parts  # not of the main module, so that a child finds it without
        patch_spawn()
        patch_spawn()
        add_import_folder("/nowhere/at/all")
        for name in ("Dask Worker process (from Nanny)", "mine"):
            child = multiprocessing.get_context(sys.argv[1]).Process(target=parts.where, name=name)
            child.start()
            child.join()
            assert child.exitcode == 0
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("start", [["main.py"], ["-m", "main"]])
def test_a_worker_imports_nothing_of_the_program_and_another_process_does(tmp_path: Path, method: str, start) -> None:
    source = textwrap.dedent(PARENT)
    (tmp_path / "main.py").write_text(source)
    (tmp_path / "parts.py").write_text(source.partition("MARK = True")[0])
    done = subprocess.run(
        [sys.executable, *start, method], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": str(Path(child_imports.__file__).parents[2])},
    )  # fmt: skip
    assert done.stdout == "Dask Worker process (from Nanny) False False\nmine True True\n", done.stderr


def test_only_workers_of_the_embedded_cluster_ignore_ctrl_c_while_they_start() -> None:
    child_imports.patch_spawn()
    worker = f"{child_imports.WORKER_NAME} (from Nanny)"
    with child_imports.interrupts_ignored_in_workers():
        ours = spawn.get_preparation_data(worker)
        assert "interrupts" not in spawn.get_preparation_data("mine")
    assert "interrupts" not in spawn.get_preparation_data(worker)
    before = signal.getsignal(signal.SIGINT)
    try:
        pickle.loads(pickle.dumps(ours["interrupts"]))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("module", [popen_spawn_posix, popen_forkserver])
def test_the_standard_library_asks_for_what_a_process_imports_where_it_is_replaced(module) -> None:
    assert "spawn.get_preparation_data(process_obj._name)" in inspect.getsource(module)
    asked = inspect.getsource(spawn).partition("def get_preparation_data(name):")[2].partition("\ndef ")[0]
    assert "init_main_from_name" in asked
    assert "init_main_from_path" in asked


def test_dask_names_its_workers_as_expected() -> None:
    from distributed import nanny

    assert f'name="{child_imports.WORKER_NAME}' in inspect.getsource(nanny)


def test_a_main_module_is_imported_by_its_name_before_its_file() -> None:
    assert MainModule(__file__, "package.module").preparation_data() == {"init_main_from_name": "package.module"}
    assert MainModule(__file__).preparation_data() == {"init_main_from_path": __file__}


def test_a_file_that_is_not_here_is_not_imported() -> None:
    assert MainModule("/nowhere/app.py").preparation_data() == MainModule().preparation_data() == {}


def test_the_main_module_of_a_process_is_known_by_name_and_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", main := type(sys)("__main__"))
    assert MainModule.of_this_process() == (None, None)
    main.__file__ = __file__
    assert MainModule.of_this_process() == (__file__, None)
    main.__spec__ = importlib.machinery.ModuleSpec("package.module", None)
    assert MainModule.of_this_process() == (__file__, "package.module")


def test_a_process_that_stands_in_for_another_spawns_what_that_one_would() -> None:
    code = (
        "from multiprocessing import spawn\n"
        "from runmem.clusters.child_imports import WORKER_NAME, MainModule\n"
        "MainModule(None, 'package.module').import_in_children()\n"
        "mine = spawn.get_preparation_data('mine')\n"
        "assert mine['init_main_from_name'] == 'package.module'\n"
        "assert 'init_main_from_path' not in mine\n"
        "assert not {'init_main_from_name', 'init_main_from_path'} & {*spawn.get_preparation_data(WORKER_NAME)}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_this_process_imports_its_main_module_at_no_moment() -> None:
    assert not child_imports.is_importing_main()
    assert multiprocessing.current_process().name == "MainProcess"


KEPT = """
    import multiprocessing, sys
    from multiprocessing import resource_tracker
    from runmem.clusters.child_imports import exclude_from_workers

    def where():
        print(multiprocessing.current_process().name, sys.flags.safe_path, "/not/for/workers" in sys.path, flush=True)

    if __name__ == "__main__":
        import parts
        sys.path.insert(0, "/not/for/workers")
        exclude_from_workers("/somewhere/else")
        exclude_from_workers("/not/for/workers")
        for name in ("Dask Worker process (from Nanny)", "mine"):
            child = multiprocessing.get_context("spawn").Process(target=parts.where, name=name)
            child.start()
            child.join()
            assert child.exitcode == 0
        command = open(f"/proc/{resource_tracker._resource_tracker._pid}/cmdline").read().split(chr(0))
        assert command[1:3] == ["-P", "-c"], command
"""


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks at the command line of a process in /proc")
def test_a_worker_begins_without_a_folder_that_another_process_has(tmp_path: Path) -> None:
    """Neither in its import path nor as its current folder, which `python -c` searches first."""
    source = textwrap.dedent(KEPT)
    (tmp_path / "main.py").write_text(source)
    (tmp_path / "parts.py").write_text(source.partition("if __name__")[0])
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": str(Path(child_imports.__file__).parents[2])},
    )  # fmt: skip
    assert done.stdout == "Dask Worker process (from Nanny) True False\nmine False True\n", done.stderr
