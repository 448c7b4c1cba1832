"""Starts the workers of one host over `ssh`, and again after a lost connection."""

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
    "-Txa",
    "-oBatchMode=yes",  # never ask for a password during a run
    "-oConnectTimeout=15",
    "-oServerAliveInterval=30",  # keeps an idle connection in the tables of firewalls ...
    "-oServerAliveCountMax=120",  # ... and alive during an hour without network
)

# Commands on the host: the environment script, if any, then the workers, which read the rest of the input.
_START = (
    'IFS= read -r script; cd -- "$2" 2>/dev/null; if [ -n "$script" ]; then '
    "trap 'echo \"runmem: --env_script failed on $(uname -n)\" >&2' EXIT; set -e; "
    '. /dev/stdin <<<"$(printf %s "$script" | base64 -d)" >&2; set +e; trap - EXIT; fi; '
    'exec "$1" -P -m runmem.clusters.node_workers'
)
_KEPT_LINES = 20
RECONNECT_PAUSES_S = (5.0, 60.0)  # first and longest pause before another connection
_SSH_END_S = 15.0


def remote_command(python: str, folder: str) -> str:
    """Return the command for the shell of a host. It has no secrets, because all users can read command lines."""
    return shlex.join(["bash", "-c", _START, "runmem", python, folder])


class RemoteHost:
    """A host with workers, connected by one `ssh` process. The workers end when its standard input does.

    Parameters
    ----------
    name : str
        Destination for `ssh`.
    ssh : sequence of str
        Command, with options of the user.
    command : str
        See `remote_command`.
    env_script : bytes
        Shell script to source before the workers start.

    Attributes
    ----------
    joined : str
        Line printed when the workers have joined.
    ready, ended : threading.Event
        Set when the workers have joined; set when the first connection has ended.
    """

    def __init__(self, name: str, ssh: Sequence[str], command: str, env_script: bytes) -> None:
        self.name = name
        self.ready = threading.Event()
        self.ended = threading.Event()
        self._command = [*ssh, *SSH_OPTIONS, "--", name, command]
        self._first_line = base64.b64encode(env_script) + b"\n"
        self.joined = f"runmem-joined-{uuid.uuid4().hex}"
        self._invitation = b""
        self._output: deque[str] = deque(maxlen=_KEPT_LINES)
        self._closing = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start to connect."""
        self._process = self._connect()

    def invite(self, invitation: Invitation) -> None:
        """Send the address and key of the run to the host."""
        self._invitation = invitation.to_line().encode()
        self._thread = threading.Thread(target=self._follow, name=f"runmem-ssh-{self.name}", daemon=True)
        self._thread.start()

    def failure(self) -> str:
        """Return the exit code of `ssh` and the last output before the connection ended."""
        code = self._process.wait() if self._process is not None else None
        output = "\n  ".join(self._output) or "no output"
        return f"exit code {code}: {output}"

    def has_printed(self, words: str) -> bool:
        """Return True if the last output contains `words`."""
        return any(words in line for line in self._output)

    @property
    def exit_code(self) -> int | None:
        """Exit code of `ssh`: the host's, or 255 if there was no connection; None while connected."""
        return None if self._process is None else self._process.poll()

    def _connect(self) -> subprocess.Popen[bytes]:
        # In a new session, so that Ctrl-C goes to the program only, which then ends the workers.
        return subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, bufsize=0
        )

    def _follow(self) -> None:
        """Read the output of a connection to its end, and connect again unless the run ends."""
        pause_s = RECONNECT_PAUSES_S[0]
        while self._process is not None:
            self._read_output(self._process)
            code = self._process.wait()
            self.ended.set()
            if self._closing.is_set() or not self.ready.is_set():
                return
            last = f": {self._output[-1]}" if self._output else ""
            text = "runmem: warning: lost the workers of host %s (ssh ended with exit code %s%s); trying again"
            logging.getLogger("runmem").warning(text, self.name, code, last)
            if self._closing.wait(pause_s):
                return
            pause_s = min(pause_s * 2, RECONNECT_PAUSES_S[1])
            self._output.clear()
            self._process = self._connect()
            if self._closing.is_set():
                self._close_input()

    def _read_output(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stderr is not None
        with suppress(OSError):  # ssh ended at once; its output is read below
            process.stdin.write(self._first_line + self._invitation)
        with process.stderr:
            for line in process.stderr:
                text = line.decode(errors="replace").rstrip("\r\n")
                if text == self.joined:
                    self.ready.set()
                    self._print(*self._output)
                    self._output.clear()
                else:
                    self._output.append(text)
                    if self.ready.is_set():
                        self._print(text)

    @staticmethod
    def _print(*lines: str) -> None:
        for line in lines:
            print(line, file=sys.stderr, flush=True)

    def _close_input(self) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()

    def close(self) -> None:
        """Start to end the workers, without waiting. May be called twice, and without `start`."""
        self._closing.set()
        self._close_input()

    def wait_closed(self) -> None:
        """Wait for the end of the connection; kill `ssh` if it takes too long."""
        process = self._process
        if process is not None:
            try:
                process.wait(_SSH_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if self._thread is None and process.stderr is not None:
                process.stderr.close()
        if self._thread is not None:
            self._thread.join(_SSH_END_S)
