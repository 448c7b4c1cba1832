"""Programs of one seed, and what they print: chains of objects and files, failing tasks, and the program's own lines.

The expected output is worked out here while the program is written, by what the calls mean one after the other; nothing
of runmem has a part in it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

PRELUDE = """\
import os, time
from runmem import task, wait_on, wait_on_file, open_file, FILE_IN, FILE_OUT, FILE_INOUT, INOUT

def tell(word, name, k):
    place = os.open(os.environ["CAMPAIGN_TRUTH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(place, f"{word} {name} {os.getpid()} {k} {time.time()}\\n".encode())
    os.close(place)

def point(number):
    folder = os.environ["CAMPAIGN_POINTS"]
    open(f"{folder}/at-{number}", "w").close()
    end = time.monotonic() + 30
    while not os.path.exists(f"{folder}/go-{number}") and time.monotonic() < end:
        time.sleep(0.01)

@task(state=INOUT)
def step(state, k, s):
    tell("begin", "step", k); time.sleep(s); state.append(k); tell("end", "step", k)

@task(returns=1)
def total(state, k, s):
    tell("begin", "total", k); time.sleep(s); tell("end", "total", k); return sum(state) + k

@task(returns=1)
def fails(k, s):
    tell("begin", "fails", k); time.sleep(s); tell("end", "fails", k); raise ValueError(f"own {k}")

@task(path=FILE_OUT)
def write(path, k, s):
    tell("begin", "write", k); time.sleep(s)
    with open(path, "w") as file: file.write(f"{k}\\n")
    tell("end", "write", k)

@task(path=FILE_INOUT, returns=1)
def append(path, k, s):
    tell("begin", "append", k)
    with open(path, "a") as file: time.sleep(s); file.write(f"{k}\\n")
    with open(path) as file: lines = len(file.readlines())
    tell("end", "append", k); return lines

@task(path=FILE_IN, returns=1)
def read(path, k, s):
    tell("begin", "read", k); time.sleep(s)
    with open(path) as file: words = file.read().split()
    tell("end", "read", k); return words

@task(returns=1)
def count(words, k, s):
    tell("begin", "count", k); time.sleep(s); tell("end", "count", k); return len(words) + k

def shown(path):
    with open(path) as file: return " ".join(file.read().split())
"""


@dataclass
class Generated:
    """A program.

    Attributes
    ----------
    source : str
    expected : list of str
        The lines that it prints.
    files : dict
        Name to content of each file when it has ended.
    points : int
        Places at which it waits until it is let go on.
    code : int
        What it ends with.
    """

    source: str
    expected: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    points: int = 0
    code: int = 0


class _Writer:
    def __init__(self, choose: random.Random, files: int) -> None:
        self.choose = choose
        self.lines: list[str] = []
        self.printed: list[str] = []
        self.states: dict[str, list[int]] = {f"s{i}": [i] for i in range(2)}
        self.files: dict[str, list[str]] = {f"f{i}.txt": ["start"] for i in range(files)}
        self.results: list[tuple[str, object]] = []  # name and value of futures that nobody has waited for
        self.words: list[tuple[str, list[str]]] = []
        self.number = self.points = 0

    def next(self) -> tuple[int, float]:
        self.number += 1
        return self.number, self.choose.choice((0.0, 0.0, 0.01, 0.05, 0.2))

    def file(self) -> str:
        return self.choose.choice(sorted(self.files))

    def step(self) -> None:
        (k, s), name = self.next(), self.choose.choice(sorted(self.states))
        self.lines.append(f"step({name}, {k}, {s})")
        self.states[name].append(k)

    def total(self) -> None:
        (k, s), name = self.next(), self.choose.choice(sorted(self.states))
        self.lines.append(f"r{k} = total({name}, {k}, {s})")
        self.results.append((f"r{k}", sum(self.states[name]) + k))

    def fails(self) -> None:
        k, s = self.next()
        self.lines.append(f"r{k} = fails({k}, {s})")
        self.results.append((f"r{k}", ValueError(f"own {k}")))

    def write(self) -> None:
        (k, s), path = self.next(), self.file()
        self.lines.append(f"write({path!r}, {k}, {s})")
        self.files[path] = [str(k)]

    def append(self) -> None:
        (k, s), path = self.next(), self.file()
        self.lines.append(f"r{k} = append({path!r}, {k}, {s})")
        self.files[path].append(str(k))
        self.results.append((f"r{k}", len(self.files[path])))

    def read(self) -> None:
        (k, s), path = self.next(), self.file()
        self.lines.append(f"r{k} = read({path!r}, {k}, {s})")
        self.words.append((f"r{k}", list(self.files[path])))

    def count(self) -> None:
        if self.words:
            k, s = self.next()
            name, words = self.choose.choice(self.words)
            self.lines.append(f"r{k} = count({name}, {k}, {s})")
            self.results.append((f"r{k}", len(words) + k))

    def wait(self) -> None:
        if self.results:
            name, value = self.results.pop(self.choose.randrange(len(self.results)))
            if isinstance(value, ValueError):
                self.lines.append(f"try: print(wait_on({name}))\nexcept ValueError as error: print('failed:', error)")
                self.printed.append(f"failed: {value}")
            else:
                self.lines.append(f"print(wait_on({name}))")
                self.printed.append(str(value))

    def wait_state(self) -> None:
        name = self.choose.choice(sorted(self.states))
        self.lines.append(f"{name} = wait_on({name}); print({name})")
        self.printed.append(str(self.states[name]))

    def wait_file(self) -> None:
        path = self.file()
        self.lines.append(f"wait_on_file({path!r}); print(shown({path!r}))")
        self.printed.append(" ".join(self.files[path]))

    def own_line(self) -> None:
        path = self.file()
        self.number += 1
        self.lines.append(f"with open_file({path!r}, 'a') as file: file.write('own{self.number}\\n')")
        self.files[path].append(f"own{self.number}")

    def point(self) -> None:
        self.lines.append(f"point({self.points})")
        self.points += 1

    def end(self) -> None:
        for name, words in self.words:
            self.results.append((name, words))
        while self.results:
            self.wait()
        for name in sorted(self.states):
            self.lines.append(f"print(wait_on({name}))")
            self.printed.append(str(self.states[name]))
        for path in sorted(self.files):
            self.lines.append(f"wait_on_file({path!r}); print(shown({path!r}))")
            self.printed.append(" ".join(self.files[path]))
        self.lines.append("print('done')")
        self.printed.append("done")


_KINDS = {
    "step": 5, "total": 2, "fails": 1, "write": 1, "append": 5, "read": 3, "count": 3, "wait": 2, "wait_state": 1,
    "wait_file": 3, "own_line": 2, "point": 2,
}  # fmt: skip


_OF_FILES = ("write", "append", "read", "count", "wait_file", "own_line")


def generate(seed: int, statements: int = 24, files: int = 3, code: int = 0) -> Generated:
    """Return the program of a seed; with 0 files it writes nothing to the disk."""
    writer = _Writer(random.Random(f"program {seed}"), files)
    writer.lines += [f"s{i} = [{i}]" for i in range(2)]
    writer.lines += [f"with open('f{i}.txt', 'w') as file: file.write('start\\n')" for i in range(files)]
    kinds = {kind: weight for kind, weight in _KINDS.items() if files or kind not in _OF_FILES}
    for kind in writer.choose.choices(list(kinds), list(kinds.values()), k=statements):
        getattr(writer, kind)()
    writer.point()
    writer.end()
    writer.lines.append(f"raise SystemExit({code})")
    source = PRELUDE + "\n" + "\n".join(writer.lines) + "\n"
    return Generated(source, writer.printed, {p: "".join(f"{w}\n" for w in v) for p, v in writer.files.items()},
                     writer.points, code)  # fmt: skip
