"""On a terminal a line follows the run and is gone at the end; the program's output stands as it was written."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time

import pytest

PROGRAM = """
import sys
from pathlib import Path
from runmem import task, wait_on

@task(returns=1)
def held(x):
    import time
    while not Path("go").exists():
        time.sleep(0.01)
    return x

if __name__ == "__main__":
    print("a line of the program", "x" * 100, "\\tand a tab")
    results = [held(i) for i in range(4)]
    print("on standard error", file=sys.stderr)
    print(wait_on(results))
"""


COUNTS = rb"\r\x1b\[Krunmem: 0 done, 2 running, 2 to do, highest node memory [\d.]+ MiB"


def read_until(master: int, pattern: bytes, seen: bytes = b"", patience_s: float = 60) -> bytes:
    """Return all that came, up to where `pattern` is found in it (or, for an empty one, up to the end)."""
    deadline = time.monotonic() + patience_s
    while not pattern or not re.search(pattern, seen):
        assert time.monotonic() < deadline, seen
        if select.select([master], [], [], 1)[0]:
            try:
                more = os.read(master, 65536)
            except OSError:  # the other side is closed: how Linux says that it has ended
                more = b""
            if not more:
                break
            seen += more
    return seen


@pytest.fixture(scope="module")
def screen(module_folder, write, environment):
    """Return all that the terminal got; a wide one, so that the counts are not cut off."""
    write(module_folder, "app.py", PROGRAM)
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "runmem", "--python_memory_profile", "--workers=2", "app.py"]
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 150, 0, 0))
    process = subprocess.Popen(
        command, cwd=module_folder, env=environment(TERM="xterm"), stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    try:
        seen = read_until(master, COUNTS)
        (module_folder / "go").touch()
        seen = read_until(master, b"", seen)
        assert process.wait(60) == 0, seen
    finally:
        process.kill()
        process.wait()
        os.close(master)
    return seen.decode().replace("\r\n", "\n")


def shown(screen: str) -> list[str]:
    """Return what is left on the screen: text that was erased again is gone, colours are taken off."""
    lines = [line.rpartition("\r\x1b[K")[2] for line in screen.split("\n")]
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]


def test_the_line_counts_while_tasks_run(screen):
    assert re.search(COUNTS.decode(), screen)


def test_the_line_is_gone_at_the_end(screen):
    assert not [line for line in shown(screen) if re.match(r"runmem: \d+ done", line)]


def test_the_program_s_output_is_whole_and_unchanged(screen):
    lines = shown(screen)
    assert "a line of the program " + "x" * 100 + " \tand a tab" in lines
    assert "on standard error" in lines
    assert "[0, 1, 2, 3]" in lines


def test_the_summary_follows(screen):
    assert any(re.match(r"app_01: 4 task calls in [\d.]+ m?s, exit code 0", line) for line in shown(screen))
