from __future__ import annotations

from pathlib import Path

import pytest

from runmem.collection.observer import Observer
from runmem.errors import SettingError
from runmem.events import TaskSubmitted
from runmem.extensions import make_extensions


class Listens(Observer):
    def task_submitted(self, event: TaskSubmitted) -> None:
        """Receive the event."""


def test_a_name_a_class_and_an_object_each_give_an_object() -> None:
    own = Listens()
    found = make_extensions([f"{__name__}:Listens", Listens, own], Observer, "--observers")
    assert [type(each).__name__ for each in found] == ["Listens"] * 3
    assert found[2] is own


def test_a_module_may_lie_beside_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside_it.py").write_text(
        "from runmem.collection.observer import Observer\nclass A:\n    class Inner(Observer): pass\n"
    )
    with pytest.raises(SettingError, match="No module named 'beside_it'"):
        make_extensions(["beside_it:A.Inner"], Observer, "--observers")
    (found,) = make_extensions(["beside_it:A.Inner"], Observer, "--observers", str(tmp_path))
    assert type(found).__qualname__ == "A.Inner"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("no_such_module_here:A", "ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("json:Nothing", "has no attribute 'Nothing'"),
        ("json:JSONDecoder", "it is not a runmem.collection.observer.Observer"),
        ("pathlib:Path.home", "it is not a runmem.collection.observer.Observer"),
        ("json:JSONDecodeError", "TypeError: "),
    ],
)
def test_what_cannot_be_used_is_named_with_the_reason(given: str, why: str) -> None:
    with pytest.raises(SettingError) as raised:
        make_extensions([given], Observer, "--observers")
    assert str(raised.value).startswith(f"--observers: {given!r} cannot be used: ")
    assert why in str(raised.value)
