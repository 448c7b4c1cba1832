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


def test_a_class_that_is_known_where_it_arrives_is_found_and_stays_as_it_is():
    class Counted:
        count = 0
        names = []

        def get(self):
            return self.count

    data = dumps(Counted)
    Counted.count = 5
    Counted.names.append("a")
    assert pickle.loads(data) is Counted
    assert (Counted.count, Counted.names) == (5, ["a"])


def test_a_class_that_is_not_known_is_made_and_filled(tmp_path):
    class Counted:
        count = 3

        def get(self):
            return self.count

    (tmp_path / "class.pickle").write_bytes(dumps(Counted))
    script = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb'))().get())"
    command = [sys.executable, "-c", script, str(tmp_path / "class.pickle")]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "3\n"


def test_large_buffers_may_travel_apart():
    buffers: list[pickle.PickleBuffer] = []
    block = bytearray(b"x" * 100_000)
    data = dumps(pickle.PickleBuffer(block), protocol=5, buffer_callback=buffers.append)
    assert len(data) < 1000
    assert bytes(pickle.loads(data, buffers=buffers)) == block
