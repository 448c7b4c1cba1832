"""Dask's TCP on this machine for the processes of one user: connections of other users are closed before any read.

Loopback alone does not exclude other users of the machine, and TLS doubles the processor time for each MiB. The kernel
knows the owner of both ends of a connection; asking once per connection costs the messages nothing.

Importing this module registers the scheme ``loopback://`` with Dask; workers do so as a preload.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import sys

from distributed.comm.core import Comm
from distributed.comm.registry import backends
from distributed.comm.tcp import TCPBackend, TCPConnector, TCPListener
from tornado.iostream import IOStream

__all__ = ["SCHEME", "LoopbackBackend", "can_look_up_owners", "listener_owner", "peer_owner"]

SCHEME = "loopback"

# Messages of sock_diag(7), from linux/sock_diag.h, linux/inet_diag.h and linux/netlink.h.
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, _NLMSG_ERROR = 4, 20, 1, 2
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_REQUEST = struct.Struct("=BBBxI")  # family, protocol, extensions, states
_ENDS = struct.Struct("!HH4s12x4s12x")  # ports and addresses of a socket and of its peer
_ANY_INTERFACE_AND_COOKIE = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_RESPONSE = struct.Struct("=BBxx48s12xII")  # family, state, ends, user id, inode
_ALL_STATES = 0xFFF
_ESTABLISHED, _LISTENING = 1, 10  # net/tcp_states.h
_KERNEL_S = 1.0

log = logging.getLogger(__name__)

_Endpoint = tuple[str, int]


def can_look_up_owners() -> bool:
    """Return True if the kernel gives the owners of connections: Linux with sock_diag(7), tested on a connection."""
    if sys.platform != "linux":
        return False
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            accepted, _ = server.accept()
            with accepted:
                return peer_owner(accepted) == listener_owner(client) == os.geteuid()
    except OSError:
        return False


def peer_owner(connection: socket.socket) -> int | None:
    """Return the user id of the process at the other end of an accepted connection; None if it has closed it.

    Only established connections count: a closed end without a process would appear to belong to root. Takes some 20
    microseconds.

    Raises
    ------
    OSError
        If the connection is closed or the kernel does not answer.

    Assumptions: IPv4, one network namespace. Limitation: the owner may forward the connection of another user.
    """
    owner = _owner(connection.getpeername(), connection.getsockname(), _ESTABLISHED)
    # If the peer has just closed its port, another process may have taken it. Then this end is closed too.
    state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return owner if state == _ESTABLISHED else None


def listener_owner(connection: socket.socket) -> int | None:
    """Return the user id of the process that listens at the other end of a connection; None if there is none.

    Raises
    ------
    OSError
        As `peer_owner`.
    """
    return _owner(connection.getpeername(), ("0.0.0.0", 0), _LISTENING)


def _owner(local: _Endpoint, remote: _Endpoint, state: int) -> int | None:
    """Return the owner of the socket with these two ends, if it is in that state and open in a process."""
    ends = _ENDS.pack(local[1], remote[1], socket.inet_aton(local[0]), socket.inet_aton(remote[0]))
    request = _REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, _ALL_STATES) + ends + _ANY_INTERFACE_AND_COOKIE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_KERNEL_S)
        kernel.send(_HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + request)
        answer = kernel.recv(4096)
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _NLMSG_ERROR:
        code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        if code == errno.ENOENT:
            return None
        raise OSError(code, f"sock_diag: {os.strerror(code)}")
    _, found_state, found_ends, user, inode = _RESPONSE.unpack_from(answer, _HEADER.size)
    is_same = found_ends.startswith(ends)  # if no connection has these ends, the kernel returns the listener
    return user if is_same and found_state == state and inode else None


class _Listener(TCPListener):  # type: ignore[misc]
    prefix = f"{SCHEME}://"

    async def start(self) -> None:
        """Listen, and check the peer of each connection. Nothing is accepted before this coroutine returns."""
        await super().start()
        handle = self.tcp_server.handle_stream

        async def check_peer(stream: IOStream, address: object) -> None:
            try:
                owner = peer_owner(stream.socket)
            except OSError:  # closed again, or no answer
                owner = None
            if owner == os.geteuid():  # not root: a forwarder run by root would admit anyone
                await handle(stream, address)
                return
            if owner is not None:
                log.warning("runmem: warning: a connection from %s of user id %d was refused", address, owner)
            stream.close()

        self.tcp_server.handle_stream = check_peer


class _Connector(TCPConnector):  # type: ignore[misc]
    prefix = f"{SCHEME}://"

    async def connect(self, address: str, deserialize: bool = True, **arguments: object) -> Comm:
        """Connect, and check that the listener belongs to this user, because its messages are unpickled."""
        comm = await super().connect(address, deserialize=deserialize, **arguments)
        if listener_owner(comm.stream.socket) != os.geteuid():
            comm.abort()
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"the listener at {address} belongs to another user")
        return comm


class LoopbackBackend(TCPBackend):  # type: ignore[misc]
    """Dask backend of the addresses ``loopback://127.0.0.1:PORT``."""

    _connector_class = _Connector
    _listener_class = _Listener


backends.setdefault(SCHEME, LoopbackBackend())
