"""Files are what the program made of them, whenever a worker dies and Dask runs calls again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

START = """
import os, signal, sys, time
from pathlib import Path
from runmem import FILE_IN, FILE_INOUT, FILE_OUT, barrier, open_file, task, wait_on, wait_on_file

@task(path=FILE_IN, returns=1)
def read(path): return Path(path).read_text()

@task(path=FILE_INOUT, returns=1)
def append(path, text):
    with open(path, "a") as file: file.write(text)
    return len(Path(path).read_text())

@task(path=FILE_OUT, returns=1)
def make(path, text):
    Path(path).write_text(text)
    return text

@task(returns=1)
def double(value): return value * 2

@task(returns=1)
def process(n):
    time.sleep(0.1)
    return os.getpid()

def lose_all_results():
    found = set(wait_on([process(n) for n in range(8)]))
    for pid in found: os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)

data = Path("data.txt")
top = os.getcwd()

def run(number, source):  # in a folder of its own
    os.makedirs(f"part{number}")
    os.chdir(f"part{number}")
    print(f"=== {number}")
    exec(compile(source, f"part{number}.py", "exec"), globals())
    os.chdir(top)

"""

PROGRAMS = {
    "a reader whose file has a later version": """
data.write_text("a")
seen = read("data.txt")
append("data.txt", "b")
wait_on_file("data.txt")
lose_all_results()
print(wait_on(double(seen)), data.read_text())
""",
    "what was made from a reader's result": """
data.write_text("a")
seen = double(read("data.txt"))
barrier()  # now nobody has what is known of the reader itself
with open_file("data.txt", "a") as file: file.write("b")
lose_all_results()
print(wait_on(double(seen)), data.read_text())
""",
    "a reader of a file that the program has changed": """
data.write_text("a")
seen = read("data.txt")
for text in "bc":
    with open_file("data.txt", "a") as file: file.write(text)
lose_all_results()
print(wait_on(double(seen)), data.read_text())
""",
    "a reader of a version that the program has changed in place": """
data.write_text("a")
length = append("data.txt", "b")
seen = read("data.txt")
with open_file("data.txt", "a") as file: file.write("c")
lose_all_results()
print(wait_on(double(seen)), wait_on(double(length)), data.read_text())
""",
    "a file that the program adds to": """
made = make("data.txt", "made")
with open_file("data.txt", "a") as file: file.write(" and changed")
lose_all_results()
print(wait_on(double(made)), data.read_text())
""",
    "a file that the program has removed": """
made = make("data.txt", "made")
wait_on_file("data.txt")
data.unlink()
lose_all_results()
print(wait_on(double(made)), data.exists())
""",
    "a file that another task has made anew": """
first, second = make("data.txt", "a"), make("data.txt", "b")
wait_on_file("data.txt")
lose_all_results()
print(wait_on(double(first)), wait_on(double(second)), data.read_text())
""",
    "a chain of tasks that add to a file": """
data.write_text("a")
lengths = [append("data.txt", "b") for _ in range(4)]
print(Path(wait_on_file("data.txt")).read_text())
lose_all_results()
print(wait_on([double(length) for length in lengths]), data.read_text())
lengths += [append("data.txt", "c") for _ in range(2)]
lose_all_results()
print(wait_on([double(length) for length in lengths]), Path(wait_on_file("data.txt")).read_text())
""",
    "files by other names": """
data.write_text("a")
Path("link.txt").symlink_to("data.txt")
seen = [read("link.txt"), read(Path("link.txt"))]
append("link.txt", "b")
seen.append(read("data.txt"))
with open_file("link.txt", "a") as file: file.write("c")
lose_all_results()
print(wait_on([double(text) for text in seen]), data.read_text(), Path("link.txt").is_symlink())
""",
    "a task that takes more memory than there is": """
rows = make("data.txt", "header ")
for n in range(3): append("data.txt", f"{n} ")
print(Path(wait_on_file("data.txt")).read_text())
@task(returns=1)
def hungry():
    kept = []
    while True:
        kept.append(b"x" * (20 << 20))
        time.sleep(0.02)
try: wait_on(hungry())
except Exception as error: print(type(error).__name__)
print(wait_on(double(rows)), data.read_text())
""",
}

PRINTED = {
    "a reader whose file has a later version": "aa ab\n",
    "what was made from a reader's result": "aaaa ab\n",
    "a reader of a file that the program has changed": "aa abc\n",
    "a reader of a version that the program has changed in place": "abab 4 abc\n",
    "a file that the program adds to": "mademade made and changed\n",
    "a file that the program has removed": "mademade False\n",
    "a file that another task has made anew": "aa bb b\n",
    "a chain of tasks that add to a file": "abbbb\n[4, 6, 8, 10] abbbb\n[4, 6, 8, 10, 12, 14] abbbbcc\n",
    "files by other names": "['aa', 'aa', 'abab'] abc True\n",
    "a task that takes more memory than there is": ("header 0 1 2 \nTaskKilledError\nheader header  header 0 1 2 \n"),
}


@pytest.fixture(scope="module")
def printed(module_folder: Path, runmem: Callable[..., Any], write: Callable[..., Path]) -> list[str]:
    """Run all programs one after the other on one cluster; return what each prints."""
    parts = "".join(f"run({number}, {source!r})\n" for number, source in enumerate(PROGRAMS.values()))
    write(module_folder, "app.py", START + parts)
    ran = runmem(module_folder, "--workers=2", "--worker_memory=300MiB", "app.py")
    assert ran.code == 0, ran.err
    return [part.partition("\n")[2] for part in ran.out.split("=== ")[1:]]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_file_stays_what_it_is_when_a_worker_dies(name: str, printed: list[str]) -> None:
    assert printed[list(PROGRAMS).index(name)] == PRINTED[name]
