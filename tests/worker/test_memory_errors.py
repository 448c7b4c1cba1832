from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from runmem.deaths import Cause
from runmem.node.members import join
from runmem.store.layout import Spool, safe_name, worker_series
from runmem.store.node_name import node_name
from runmem.units import MIB
from runmem.worker.memory_errors import note_facts, take_note


def test_the_facts_of_a_memory_error_are_a_note_that_is_added_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.make()
    join(spool.root, os.getpid(), "n.dat", worker_series(os.getpid()))
    ticks = [f"MEM {size} {time_s}\nCHLD {worker_series(os.getpid())} {size} {time_s}\n"
             for time_s, size in ((1.0, 100.0), (1.5, 150.0), (2.0, 200.0))]  # fmt: skip
    trace = spool.file(f"{safe_name(node_name())}.dat")
    trace.write_text("CMDLINE app\n" + "".join(ticks) + "MEM 900.0 2.1\n")
    error = MemoryError("too much")
    death = note_facts(error, spool)
    assert death is not None
    assert (death.cause, death.growth_bytes_per_s, death.beside) == (Cause.MEMORY_ERROR, 100 * MIB, "")
    assert death.is_for_memory
    assert note_facts(error) is not None
    (note,) = error.__notes__
    assert note.startswith("memory: a MemoryError, although the address space of the process is not limited")
    assert "growing by 100.0 MiB/s" in note
    assert take_note(error) == note
    assert error.__notes__ == []
    assert type(error) is MemoryError


def test_another_exception_gets_no_facts() -> None:
    error = ValueError("wrong")
    assert note_facts(error) is None
    assert take_note(error) is None
    assert not hasattr(error, "__notes__")


def test_a_limit_on_the_address_space_is_named_with_what_is_used_of_it() -> None:
    """In a process of its own, whose limit does not harm others."""
    code = """
import resource
from runmem.worker.memory_errors import note_facts
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, resource.RLIM_INFINITY))
try:
    bytearray(2**33)
except MemoryError as error:
    death = note_facts(error)
    print(death.cause, death.limit_bytes, death.words, error.__notes__[0], sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    cause, limit, words, *note = done.stdout.splitlines()
    assert (cause, int(limit)) == (Cause.ADDRESS_SPACE, 4 * 2**30)
    assert words.startswith("a MemoryError: the address space of the process is limited to 4.0 GiB, of which it used ")
    assert note[0] == f"memory: {words}"
