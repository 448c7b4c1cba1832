"""The workers of one host, started over `ssh` and started again when the connection to it was lost."""

from __future__ import annotations

import base64
import logging
import shlex
import subprocess
import sys
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from runmem.clusters.invitation import Invitation

__all__ = ["RemoteHost", "SSH_OPTIONS", "remote_command"]

SSH_OPTIONS = (
    "-T", "-x", "-a",
    "-o", "BatchMode=yes",  # nobody is asked for a password in the middle of a run
    "-o", "ConnectTimeout=15",
    "-o", "ServerAliveInterval=30",  # a quiet connection stays in the tables of firewalls ...
    "-o", "ServerAliveCountMax=120",  # ... and outlives an hour without network
)  # fmt: skip

# On the host: the environment script, if there is one, and then the workers, which read the rest of the input.
_START = (
    'IFS= read -r script; cd -- "$2" 2>/dev/null; if [ -n "$script" ]; then '
    "trap 'echo \"runmem: --env_script failed on $(uname -n)\" >&2' EXIT; set -e; "
    '. /dev/stdin <<<"$(printf %s "$script" | base64 -d)" >&2; set +e; trap - EXIT; fi; '
    'exec "$1" -P -m runmem.clusters.node_workers'
)
_KEPT_LINES = 20
RECONNECT_PAUSES_S = (5.0, 60.0)  # the first pause before another try, and the longest
_END_S = 15.0


def remote_command(python: str, folder: str) -> str:
    """Return what the shell of a host is given. Nothing secret is in it: everybody there can read command lines."""
    return shlex.join(["bash", "-c", _START, "runmem", python, folder])


class RemoteHost:
    """One host, reached by one `ssh` process whose standard input holds its workers: when that ends, they end.

    Parameters
    ----------
    name : str
        What `ssh` is given.
    ssh : sequence of str
        The command, with options of the user's.
    command : str
        See `remote_command`.
    env_script : bytes
        Text that the host's shell sources before the workers start.

    Attributes
    ----------
    joined : str
        Line by which its workers tell that they have joined.
    ready, ended : threading.Event
        Set when its workers have joined; when its first connection has ended, before or after that.
    """

    def __init__(self, name: str, ssh: Sequence[str], command: str, env_script: bytes) -> None:
        self.name = name
        self.ready = threading.Event()
        self.ended = threading.Event()
        self._command = [*ssh, *SSH_OPTIONS, "--", name, command]
        self._first_line = base64.b64encode(env_script) + b"\n"
        self.joined = f"runmem-joined-{uuid.uuid4().hex}"
        self._invitation = b""
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._closing = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._process = self._connect()

    def invite(self, invitation: Invitation) -> None:
        """Tell the host whom to join; its workers are to say `joined` when they have."""
        self._invitation = invitation.to_line().encode()
        self._thread = threading.Thread(target=self._follow, name=f"runmem-ssh-{self.name}", daemon=True)
        self._thread.start()

    def failure(self) -> str:
        """Return what `ssh` and the host said before the connection ended, with its exit code."""
        code = self._process.wait() if self._process is not None else None
        said = "\n  ".join(self._said) or "nothing was said"
        return f"exit code {code}: {said}"

    def said(self, words: str) -> bool:
        """Tell whether `words` were among the last lines that came."""
        return any(words in line for line in self._said)

    @property
    def exit_code(self) -> int | None:
        """That of `ssh`, which is the host's, or 255 where there was no connection; None while there is one."""
        return None if self._process is None else self._process.poll()

    def _connect(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C is for the program, which then ends the hosts in order.
        return subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, bufsize=0
        )

    def _follow(self) -> None:
        """Read what a connection says until it ends; unless the run ends, connect again."""
        pause_s = RECONNECT_PAUSES_S[0]
        while self._process is not None:
            self._talk(self._process)
            code = self._process.wait()
            self.ended.set()
            if self._closing.is_set() or not self.ready.is_set():
                return
            logging.getLogger("runmem").warning(
                "runmem: warning: the workers of host %s are gone (ssh ended with exit code %s%s); trying again",
                self.name, code, f": {self._said[-1]}" if self._said else "",
            )  # fmt: skip
            if self._closing.wait(pause_s):
                return
            pause_s = min(pause_s * 2, RECONNECT_PAUSES_S[1])
            self._said.clear()
            self._process = self._connect()
            if self._closing.is_set():
                self._hang_up()

    def _talk(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stderr is not None
        with suppress(OSError):  # it ended at once; what it said is read below
            process.stdin.write(self._first_line + self._invitation)
        with process.stderr:
            for line in process.stderr:
                text = line.decode(errors="replace").rstrip("\r\n")
                if text == self.joined:
                    self.ready.set()
                    self._show(*self._said)
                    self._said.clear()
                else:
                    self._said.append(text)
                    if self.ready.is_set():
                        self._show(text)

    @staticmethod
    def _show(*lines: str) -> None:
        for line in lines:
            print(line, file=sys.stderr, flush=True)

    def _hang_up(self) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()

    def close(self) -> None:
        """Let the workers end; returns at once. May be called twice, and without `start`."""
        self._closing.set()
        self._hang_up()

    def wait_closed(self) -> None:
        """Wait until the connection is gone; one that does not end by itself is cut."""
        process = self._process
        if process is not None:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if self._thread is None and process.stderr is not None:
                process.stderr.close()
        if self._thread is not None:
            self._thread.join(_END_S)
