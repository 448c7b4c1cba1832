"""Dask's TCP on this machine for the processes of one user: who belongs to another is shown out before a byte is read.

Loopback alone keeps nobody out who has an account here, and TLS costs twice the processor time for each MiB that is
sent. The kernel knows whose each end of a connection is; asking it once a connection costs the messages nothing.

Importing this module makes the scheme ``loopback://`` known to Dask; workers do so as a preload.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import sys
from typing import Any

from distributed.comm.registry import backends
from distributed.comm.tcp import TCPBackend, TCPConnector, TCPListener

__all__ = ["SCHEME", "LoopbackBackend", "peer_owner", "listener_owner", "can_look_up_owners"]

SCHEME = "loopback"

# What sock_diag(7) takes and gives, from linux/sock_diag.h, linux/inet_diag.h and linux/netlink.h.
_NETLINK_SOCK_DIAG, _BY_FAMILY, _REQUEST, _ERROR = 4, 20, 1, 2
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ASKED = struct.Struct("=BBBxI")  # family, protocol, extensions, states
_ENDS = struct.Struct("!HH4s12x4s12x")  # ports and addresses: of the socket that is asked for, then of its peer
_ANY_INTERFACE_AND_COOKIE = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_FOUND = struct.Struct("=BBxx48s12xII")  # family, state, ends, user id, inode
_ALL_STATES = 0xFFF
_ESTABLISHED, _LISTENING = 1, 10  # net/tcp_states.h
_ANSWER_S = 1.0

log = logging.getLogger(__name__)

_Place = tuple[str, int]


def can_look_up_owners() -> bool:
    """Tell whether the kernel says here whose a connection is: Linux with sock_diag(7), tried out on one of ours."""
    if sys.platform != "linux":
        return False
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as asking:
            accepted, _ = server.accept()
            with accepted:
                return peer_owner(accepted) == listener_owner(asking) == os.geteuid()
    except OSError:
        return False


def peer_owner(connection: socket.socket) -> int | None:
    """Return the user id of the process at the other end of a connection that was accepted; None: nobody is there now.

    It is what the kernel has of an established connection with a process behind it. Whoever sends and closes at once
    leaves an end without an owner, which reads as root's: that is None. Costs some 20 microseconds.

    Raises
    ------
    OSError
        If the connection is gone, or the kernel does not answer.

    Assumptions: IPv4, one network namespace. Limitation: the owner may be a forwarder, and speak for somebody else.
    """
    owner = _owner(connection.getpeername(), connection.getsockname(), _ESTABLISHED)
    # A port that its owner has just given up may be a process of ours by now: then this end is not open any more.
    state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return owner if state == _ESTABLISHED else None


def listener_owner(connection: socket.socket) -> int | None:
    """Return the user id of the process that listens where a connection of ours leads; None: there is none now.

    Raises
    ------
    OSError
        As `peer_owner`.
    """
    return _owner(connection.getpeername(), ("0.0.0.0", 0), _LISTENING)


def _owner(local: _Place, remote: _Place, state: int) -> int | None:
    """Return the user id of the socket with these two ends, if it is in that state and a process has it."""
    ends = _ENDS.pack(local[1], remote[1], socket.inet_aton(local[0]), socket.inet_aton(remote[0]))
    asked = _ASKED.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _ALL_STATES) + ends + _ANY_INTERFACE_AND_COOKIE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_ANSWER_S)
        kernel.send(_HEADER.pack(_HEADER.size + len(asked), _BY_FAMILY, _REQUEST, 1, 0) + asked)
        answer = kernel.recv(4096)
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _ERROR:
        code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        if code == errno.ENOENT:
            return None
        raise OSError(code, f"sock_diag: {os.strerror(code)}")
    _, found_state, found_ends, user, inode = _FOUND.unpack_from(answer, _HEADER.size)
    same = found_ends.startswith(ends)  # where no connection has these ends the kernel gives who listens there
    return user if same and found_state == state and inode else None


class _Listener(TCPListener):  # type: ignore[misc]
    prefix = f"{SCHEME}://"

    async def start(self) -> None:
        """Listen; nothing is accepted before the event loop has its turn, and then each peer is looked at first."""
        await super().start()
        served = self.tcp_server.handle_stream

        async def look_first(stream: Any, address: Any) -> None:
            try:
                owner = peer_owner(stream.socket)
            except OSError:  # gone again, or no answer: nobody is let in unseen
                owner = None
            if owner == os.geteuid():  # root is shown out too: a forwarder of root's would let anybody in
                await served(stream, address)
                return
            if owner is not None:
                log.warning("runmem: warning: a connection from %s of user id %d was refused", address, owner)
            stream.close()

        self.tcp_server.handle_stream = look_first


class _Connector(TCPConnector):  # type: ignore[misc]
    prefix = f"{SCHEME}://"

    async def connect(self, address: str, deserialize: bool = True, **arguments: Any) -> Any:
        """Connect, and go on only if the listener is ours: what it says would be unpickled."""
        comm = await super().connect(address, deserialize=deserialize, **arguments)
        if listener_owner(comm.stream.socket) != os.geteuid():
            comm.abort()
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"who listens at {address} is not a process of this user")
        return comm


class LoopbackBackend(TCPBackend):  # type: ignore[misc]
    """What Dask takes ``loopback://127.0.0.1:PORT`` for; a backend of its public registry."""

    _connector_class = _Connector
    _listener_class = _Listener


backends.setdefault(SCHEME, LoopbackBackend())
