from __future__ import annotations

import random
import sys
import types
from pathlib import Path
from random import gauss
from typing import Any

import numpy as np
import pytest

from runmem.execution.random_numbers import SeedNote
from runmem.graph.task import task


@task(returns=1)
def by_module():
    return random.random()


@task(returns=1)
def by_name():
    return gauss(0, 1)


@task(returns=1)
def by_numpy():
    return np.random.normal()


@task(returns=1)
def by_own_generator(seed):
    return np.random.default_rng(seed).normal()


@task(returns=1)
def without():
    return np.zeros(3)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(text: str) -> None:
        main = types.ModuleType("__main__")
        main.__file__ = str(tmp_path / "app.py")
        (tmp_path / "app.py").write_text(text)
        monkeypatch.setitem(sys.modules, "__main__", main)

    return make


@pytest.mark.parametrize("drawing", [by_module, by_name, by_numpy])
def test_a_program_that_seeds_is_told_once(drawing: Any, program: Any, capsys: pytest.CaptureFixture[str]) -> None:
    program("import random\nrandom.seed(3)\n")
    note = SeedNote()
    for called in (without, by_own_generator, drawing, drawing, by_module):
        note.look_at(called)
    told = capsys.readouterr().err
    assert told.count("runmem: note:") == 1
    assert f"task {drawing.name} draws" in told
    assert "Pass a seed to the task" in told


def test_objects_that_answer_oddly_are_left_alone(program: Any, capsys: pytest.CaptureFixture[str]) -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise KeyError(name)

    program("import random\nrandom.seed(3)\n")
    names = {"odd": Odd()}
    exec("def look():\n    return odd\n", names)
    SeedNote().look_at(task(returns=1)(names["look"]))
    assert capsys.readouterr().err == ""


def test_a_program_that_does_not_seed_is_told_nothing(program: Any, capsys: pytest.CaptureFixture[str]) -> None:
    program("import random\nprint(random.random())\n")
    SeedNote().look_at(by_module)
    assert capsys.readouterr().err == ""
