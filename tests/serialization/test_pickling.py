from __future__ import annotations

import pickle
import subprocess
import sys

import cloudpickle

from runmem.serialization.pickling import dumps


def test_code_keeps_its_file_in_another_process(tmp_path):
    program = tmp_path / "program.py"
    names = {"__name__": "__main__"}
    text = "def outer():\n    def inner():\n        return 5\n    return inner\n"
    exec(compile(text, str(program), "exec"), names)
    (tmp_path / "outer.pickle").write_bytes(dumps(names["outer"]))
    script = (
        "import pickle, sys\n"
        "outer = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(outer.__code__.co_filename, outer().__code__.co_filename, outer()(), outer()().__class__.__name__)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "outer.pickle")]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert shown == [str(program), str(program), "5", "int"]


def test_what_is_no_code_is_as_cloudpickle_has_it():
    value = {"a": [1, 2.5], "b": (None, "text"), "c": len}
    assert pickle.loads(dumps(value)) == pickle.loads(cloudpickle.dumps(value)) == value


def test_large_buffers_may_travel_apart():
    buffers: list[pickle.PickleBuffer] = []
    block = bytearray(b"x" * 100_000)
    data = dumps(pickle.PickleBuffer(block), protocol=5, buffer_callback=buffers.append)
    assert len(data) < 1000
    assert bytes(pickle.loads(data, buffers=buffers)) == block
