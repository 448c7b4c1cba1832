from __future__ import annotations

import pytest

from runmem.trials import control


@pytest.mark.parametrize(
    "given", ["", "huge", "one --size_mib", "one --size_mib -3", "one --size_mib x", "one --size 3"]
)
def test_what_cannot_be_used_is_named_with_what_can(given, capsys):
    assert control.main(given.split()) == 2
    said = capsys.readouterr().err
    assert (given or "there is no pattern") in said
    assert "PATTERN is one, parallel, turn, spike, fork, cache, freed; the options" in said
    assert "--size_mib" in said
