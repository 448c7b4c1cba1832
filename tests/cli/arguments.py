"""Generates random command lines, including absurd ones, and checks that none causes a traceback.

By hand: ``PYTHONPATH=src python tests/cli/arguments.py 3000 [SEED]`` prints each kind of failure and how to get it.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
from damage import LONGEST_S, limited

from runmem.cli import COMMANDS, main, runmem

MOST_ECHOED = 1_500
LONG = ("n" * 300, "n/" * 3000, "x" * 120_000, "é" * 200, "a b " * 5000, "(" * 10_000, "1" * 5000)
ODD = (
    "", " ", ".", "..", "/", "~", "~/x", "~nobody/x", "-", "--", "---", "-1", "0", "1e308", "nan", "inf", "1e999",
    "9" * 30, "\0", "a\0b", "a\nb", "\x1b[2J", "\u202e", "\udcff", "\ud800", "None", "true", "[]", "{}", "*",
    "$(ls)", "a=b", "a,b", ",", "=", ":", "a:b", "node:", "node:x", "whole-run", "demo.A<1 MiB", "demo.A<", "<",
    "a.b<1 parsec", "/dev/null", "/dev/zero", "/dev/full", "/proc/self/mem", "/proc/self/fd/0", "fifo", "folder",
    "gone/below", "app.py/below", "broken.yaml", "laughs.yaml", "binary.py", "deep.py", "run", "run/run.json",
    "x.dat", "2GiB", "-5MiB", "1e400GiB", "tcp://x", "tcp://:1", "local", "ssh", "auto", "none", "one:1TiB",
    "spike:x", "debug", "copied", "loop", "local,local", "hwm,hwm", "{x}",
)  # fmt: skip


class Outcome(NamedTuple):
    """The failures of a command line."""

    failure: str
    what: str


def make_folder(folder: Path) -> None:
    """Fill a folder with files and folders for arguments."""
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to("loop")
    (folder / "app.py").write_text("print('the program ran')\n")
    (folder / "binary.py").write_bytes(b"\x7fELF\0\0")
    (folder / "deep.py").write_text("x = " + "(" * 10_000 + ")" * 10_000 + "\n")
    (folder / "broken.yaml").write_text("a: [1, {\n")
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    for below, above in zip("abcdefghij", "bcdefghijk", strict=True):
        lines.append(f"{above}: &{above} [{', '.join([f'*{below}'] * 9)}]")
    (folder / "laughs.yaml").write_text("\n".join(lines) + "\n")
    (folder / "run").mkdir()
    (folder / "run" / "run.json").write_text('{"app": "app"}')
    (folder / "x.dat").write_text("MEM 10.0 1790000000.0\nMEM 11.0 1790000001.0\n")


def _options(name: str) -> list[click.Option]:
    command = runmem.get_command(click.Context(runmem), name)
    assert command is not None
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def line_of(dice: random.Random) -> list[str]:
    """Return a random command line. It starts no program: its programs do not exist or are rejected."""
    name = dice.choice([*COMMANDS, "report", "metric", "run"])
    words = [name] if dice.random() < 0.97 else [dice.choice((*ODD, *LONG)).replace("fifo", "x")]
    for _ in range(dice.choice((0, 1, 1, 2, 3))):
        option = dice.choice(_options(name))
        written = dice.choice(option.opts)
        odd = ODD if written not in ("--figure", "--output") else [word for word in ODD if word != "fifo"]  # waits
        value = dice.choice(LONG) if dice.random() < 0.3 else dice.choice(odd)
        if option.is_flag:
            words.append(written)
        else:
            words += [f"{written}={value}"] if dice.random() < 0.3 else [written, value]
    given = {
        "run": ("deep.py", "binary.py", "folder", "nothing.py", *LONG), "submit": ("binary.py", "nothing.py", *LONG),
        "report": ("run", "x.dat", *ODD, *LONG), "metric": ("run", "x.dat", *ODD, *LONG), "trial": ("gone", *LONG),
    }[name]  # fmt: skip
    if dice.random() < 0.9:
        words += [*(["--"] if name == "trial" else []), dice.choice(given)]
    return words


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        yield said


def try_one(seed: int) -> list[Outcome]:
    """Run the command line of `seed` in a new folder and return its failures."""
    dice = random.Random(seed)
    words = line_of(dice)
    what = f"runmem {' '.join(repr(word[:60]) for word in words)} (seed {seed})"
    here, argv = Path.cwd(), sys.argv
    with tempfile.TemporaryDirectory(prefix="runmem-arguments-") as folder:
        make_folder(Path(folder))
        os.chdir(folder)
        sys.argv = ["runmem", *words]
        code: object = None
        try:
            with _quiet() as said, limited(LONGEST_S):
                main(list(words))
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in where if f"{os.sep}runmem{os.sep}" in frame.filename] or where
            place = f"{os.path.basename(ours[-1].filename)}:{ours[-1].lineno}"
            return [Outcome(f"{type(error).__name__} at {place}: {str(error)[:80]}", what)]
        finally:
            os.chdir(here)
            sys.argv = argv
        text = said.getvalue()
    found = []
    if "Traceback" in text:
        found.append(Outcome("a traceback is printed", what))
    if code == 2 and len(text) > MOST_ECHOED:
        found.append(Outcome(f"{len(text)} characters are said", what))
    if code == 2 and text.count("runmem: error: ") != 1:
        found.append(Outcome(f"no error is said: {text[-80:]!r}", what))
    if code == 2 and len(text[text.find("runmem: error: ") :].splitlines()) > 1:
        found.append(Outcome("an error of several lines", what))
    if "\x1b" in text or "\0" in text:
        found.append(Outcome("characters that change the terminal", what))
    return found


def report_on(count: int, first: int = 0) -> int:
    """Try `count` command lines and print their failures; return the number of failures."""
    outcomes = [outcome for seed in range(first, first + count) for outcome in try_one(seed)]
    kinds = Counter(outcome.failure for outcome in outcomes)
    examples = {outcome.failure: outcome.what for outcome in outcomes}
    for failure, times in kinds.most_common():
        print(f"{times:5d}  {failure}\n       {examples[failure]}")
    print(f"{len(outcomes)} of {count} command lines are not borne")
    return len(outcomes)


if __name__ == "__main__":
    sys.exit(min(report_on(int(sys.argv[1]), int((sys.argv[2:] or ["0"])[0])), 1))
