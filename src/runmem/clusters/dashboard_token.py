"""Restricts an HTTP server on loopback to holders of a token, because other users and web pages can connect to it.

A token is used instead of the owner of the connection (`loopback.py`), because the proxy of a notebook server may
belong to another user, a browser of the right user may show a hostile page (DNS rebinding, websockets), and one rule
fits all systems. Tunnels (``ssh -L``) need no setup: the token is in the address that runmem prints, and the first page
sets it as a cookie.
"""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.routing import Router
from tornado.web import Application, RequestHandler

__all__ = ["relative_url", "require_token"]

_PARAMETER = "token"
_PUBLIC_PATHS = ("/health",)


def relative_url(path: str, query: str) -> str:
    """Return a URL relative to the page, which a proxy may serve below another path."""
    last = "./" + path.rpartition("/")[2]
    return f"{last}?{query}" if query else last


class _Refused(RequestHandler):  # type: ignore[misc]  # mypy skips tornado
    """Answers any request with 403."""

    def initialize(self, line: str) -> None:
        self._line = line

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(self._line + "\n")


class _Welcome(RequestHandler):  # type: ignore[misc]
    """Sets the token as a cookie and redirects to the URL without it, so that no history keeps it."""

    def initialize(self, cookie: str, token: str) -> None:
        self._cookie, self._token = cookie, token

    def prepare(self) -> None:
        # Lax: sent after a click in a mail or notebook, but not with requests of other web pages.
        self.set_cookie(self._cookie, self._token, httponly=True, samesite="Lax")
        self.set_header("Referrer-Policy", "no-referrer")
        query = [(name, value) for name, value in parse_qsl(self.request.query) if name != _PARAMETER]
        self.redirect(relative_url(self.request.path, urlencode(query)))


class _TokenRouter(Router):  # type: ignore[misc]
    """Checks each request, including those of websockets, before any handler."""

    def __init__(self, served: Any, port: int, token: str) -> None:
        self._served = served
        self._port = port
        self._token = token
        self._cookie = f"runmem-token-{port}"  # different for two runs on one machine
        self._answers = Application()

    def find_handler(self, request: HTTPServerRequest, **more: Any) -> Any:
        if request.path in _PUBLIC_PATHS:
            return self._served.find_handler(request, **more)
        origin = request.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != request.host:
            # Pages of other addresses have no access, even in the user's own browser.
            page, host = origin[:100], request.host[:100]
            return self._refuse(request, f"403: pages of {page!r} have no access to {host!r}")
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
            "403: this dashboard requires the token of its run. Open the address that runmem printed when the workers "
            f"had started: http://127.0.0.1:{self._port}/status?{_PARAMETER}=...",
        )

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(errors="replace"), self._token.encode())

    def _refuse(self, request: HTTPServerRequest, line: str) -> Any:
        return self._answers.get_handler_delegate(request, _Refused, {"line": line})


def require_token(server: HTTPServer) -> str:
    """Make a listening HTTP server of tornado require a new token for each request, and return the token.

    Requests give the token as ``?token=``, which sets a cookie, as that cookie, or as ``Authorization: token ...``.

    Limitations: browsers send a cookie to all ports of a host, so it reaches the pages of other users on loopback that
    are visited.
    """
    token = secrets.token_urlsafe(16)
    server.request_callback = _TokenRouter(server.request_callback, server.port, token)
    return token
