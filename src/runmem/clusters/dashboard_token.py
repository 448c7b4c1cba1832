"""An HTTP server on loopback for who has its token: other users of the machine reach it too, and so do web pages.

A token and not the owner of the connection, which the kernel tells on Linux (`loopback.py`): the proxy of a notebook
server may be another user's, a web page that a browser of ours shows is not ours though the browser is (DNS rebinding,
websockets), and there is one rule for every system. A tunnel of ``ssh -L`` works as it is: the token is in the address
that runmem prints, and the first page leaves it as a cookie.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.routing import Router
from tornado.web import Application, RequestHandler

__all__ = ["require_token", "relative"]

_PARAMETER = "token"
_OPEN_TO_ALL = ("/health",)  # says "ok"


def relative(path: str, query: str) -> str:
    """Return a path and query as seen from the page itself: a proxy may show it below another path."""
    last = "./" + path.rpartition("/")[2]
    return f"{last}?{query}" if query else last


class _Refused(RequestHandler):  # type: ignore[misc]  # mypy skips tornado
    """Answers what may not be seen, whatever was asked for."""

    def initialize(self, line: str) -> None:
        self._line = line

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(self._line + "\n")


class _Welcome(RequestHandler):  # type: ignore[misc]
    """Leaves the token as a cookie and has the browser ask again without it, so that it stays in no history."""

    def initialize(self, cookie: str, token: str) -> None:
        self._cookie, self._token = cookie, token

    def prepare(self) -> None:
        # Lax: a click in a mail or a notebook keeps it; a web page elsewhere that fetches or connects does not send it.
        self.set_cookie(self._cookie, self._token, httponly=True, samesite="Lax")
        self.set_header("Referrer-Policy", "no-referrer")
        query = [(name, value) for name, value in parse_qsl(self.request.query) if name != _PARAMETER]
        self.redirect(relative(self.request.path, urlencode(query)))


class _TokenRouter(Router):  # type: ignore[misc]
    """Looks at each request, also one that begins a websocket, before any handler does."""

    def __init__(self, served: Any, port: int, token: str) -> None:
        self._served = served
        self._port = port
        self._token = token
        self._cookie = f"runmem-token-{port}"  # of two runs on one machine each has its own
        self._answers = Application()

    def find_handler(self, request: HTTPServerRequest, **more: Any) -> Any:
        if request.path in _OPEN_TO_ALL:
            return self._served.find_handler(request, **more)
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            # A browser says which page asks. One of another address may not, whoever the browser belongs to.
            page, host = origin[:100], request.host[:100]
            return self._refuse(request, f"403: a page of {page!r} may not ask for what {host!r} has")
        given = [value for name, value in parse_qsl(request.query) if name == _PARAMETER]
        if given and self._is_token(given[-1]):
            if request.method == "GET" and "Upgrade" not in request.headers:
                how = {"cookie": self._cookie, "token": self._token}
                return self._answers.get_handler_delegate(request, _Welcome, how)
            return self._served.find_handler(request, **more)
        cookie = request.cookies.get(self._cookie)
        word, _, value = request.headers.get("Authorization", "").partition(" ")
        if (cookie is not None and self._is_token(cookie.value)) or (word == "token" and self._is_token(value)):
            return self._served.find_handler(request, **more)
        return self._refuse(
            request,
            "403: this dashboard asks for the token of its run. Open the address that runmem printed when the run's "
            f"workers had started: http://127.0.0.1:{self._port}/status?{_PARAMETER}=...",
        )

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(errors="replace"), self._token.encode())

    def _refuse(self, request: HTTPServerRequest, line: str) -> Any:
        return self._answers.get_handler_delegate(request, _Refused, {"line": line})


def require_token(server: HTTPServer) -> str:
    """Have an HTTP server of tornado's that listens serve nothing without a token; return that.

    The token comes as ``?token=``, which leaves a cookie, as that cookie, or as ``Authorization: token ...``.

    Limitations: browsers send a cookie to all ports of a host, so a page that another user of this machine serves on
    loopback gets it too, if it is visited.
    """
    token = secrets.token_urlsafe(16)
    server.request_callback = _TokenRouter(server.request_callback, server.port, token)
    return token
