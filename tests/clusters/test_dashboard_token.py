"""Access to a dashboard with and without its token, by HTTP and websocket, also as another user."""

from __future__ import annotations

import asyncio
import http.client
import http.cookiejar
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from runmem.clusters.local import EmbeddedCluster
from runmem.settings import resolve

PAGES = ("/status", "/", "/exceptions", "/info/main/exceptions.html", "/info/main/workers.html", "/metrics",
         "/json/counts.json", "/individual-plots.json", "/sitemap.json", "/static/css/base.css", "/eventstream",
         "/nowhere", "//status", "/health/../status", "/HEALTH")  # fmt: skip


class Dashboard(NamedTuple):
    """The address of a dashboard and its parts."""

    printed: str
    base: str
    host: str
    token: str


@pytest.fixture(scope="module")
def dashboard() -> Iterator[Dashboard]:
    """A cluster with a failed task whose error text is secret."""
    cluster = EmbeddedCluster(resolve({"workers": 1}))
    try:
        client = cluster.connect()

        def fails() -> None:
            raise ValueError("the password is swordfish")

        with pytest.raises(ValueError, match="swordfish"):
            client.submit(fails).result()
        printed = cluster.dashboard(client)
        assert printed is not None
        parts = urlsplit(printed)
        yield Dashboard(printed, f"http://{parts.netloc}", parts.netloc, parse_qs(parts.query)["token"][0])
    finally:
        cluster.close()


def ask(dashboard: Dashboard, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    """Request one page without following redirects; return status, text and headers."""
    connection = http.client.HTTPConnection(dashboard.host, timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    said = answer.status, answer.read().decode(), dict(answer.getheaders())
    connection.close()
    return said


def cookie_of(dashboard: Dashboard) -> str:
    return f"runmem-token-{dashboard.host.rpartition(':')[2]}={dashboard.token}"


@pytest.mark.parametrize("path", PAGES)
def test_without_the_token_nothing_is_shown_and_one_line_says_where_it_is(dashboard: Dashboard, path: str) -> None:
    for query in ("", "?token=", "?token=wrong", "?token=%ff", "?token=" + dashboard.token[:-1]):
        status, text, headers = ask(dashboard, path + query)
        assert status == 403
        assert "swordfish" not in text
        assert text.count("\n") == 1
        assert f"the address that runmem printed when the workers had started: {dashboard.base}/status" in text
        assert "Set-Cookie" not in headers


def test_whether_it_lives_may_be_asked_by_everybody(dashboard: Dashboard) -> None:
    assert ask(dashboard, "/health")[:2] == (200, "ok")


def test_the_printed_address_opens_the_pages_and_what_they_need(dashboard: Dashboard) -> None:
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    with browser.open(dashboard.printed) as answer:
        assert answer.url == dashboard.base + "/status"  # without the token, which would stay in the history
        assert "Bokeh" in answer.read().decode()
    with browser.open(dashboard.base + "/info/main/exceptions.html") as answer:
        assert "swordfish" in answer.read().decode()  # so it is this that others are refused
    for path in ("/static/js/bokeh.min.js", "/statics/css/base.css", "/metrics", "/json/counts.json"):
        with browser.open(dashboard.base + path) as answer:
            assert answer.status == 200


def test_the_cookie_goes_to_no_script_and_to_no_page_elsewhere(dashboard: Dashboard) -> None:
    status, _, headers = ask(dashboard, f"/info/main/workers.html?a=1&token={dashboard.token}&b=2")
    assert (status, headers["Location"]) == (302, "./workers.html?a=1&b=2")  # below whatever path a proxy has
    assert headers["Set-Cookie"].startswith(cookie_of(dashboard) + ";")
    assert {"HttpOnly", "SameSite=Lax"} <= set(headers["Set-Cookie"].split("; "))


def test_a_program_may_send_it_as_a_header(dashboard: Dashboard) -> None:
    assert ask(dashboard, "/json/counts.json", Authorization=f"token {dashboard.token}")[0] == 200
    assert ask(dashboard, "/json/counts.json", Authorization=f"Basic {dashboard.token}")[0] == 403
    assert ask(dashboard, "/json/counts.json", Authorization="token wrong")[0] == 403


def test_a_name_that_a_web_page_has_lead_here_gets_nothing_by_itself(dashboard: Dashboard) -> None:
    """DNS rebinding: the browser is the user's own, and has no cookie for that name."""
    assert ask(dashboard, "/info/main/exceptions.html", Host="evil.example")[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "null", "file://", "http://[", ""])
def test_a_page_of_another_address_may_not_ask_even_with_the_cookie(dashboard: Dashboard, origin: str) -> None:
    status, text, _ = ask(dashboard, "/json/counts.json", Cookie=cookie_of(dashboard), Origin=origin)
    assert status == 403
    assert f"pages of {origin!r} have no access" in text


def test_behind_a_tunnel_or_the_proxy_of_a_notebook_the_name_is_theirs(dashboard: Dashboard) -> None:
    for name in ("localhost:9999", "hub.example.org"):
        asked = {"Host": name, "Cookie": cookie_of(dashboard), "Origin": f"https://{name}"}
        assert ask(dashboard, "/json/counts.json", **asked)[0] == 200


async def first_message(dashboard: Dashboard, path: str, **headers: str) -> str:
    request = HTTPRequest(f"ws://{dashboard.host}{path}", headers=headers, request_timeout=30)
    connection = await websocket_connect(request)
    try:
        await connection.write_message(json.dumps({"name": "ping"}))
        return str(await asyncio.wait_for(connection.read_message(), 30))
    finally:
        connection.close()


def test_a_websocket_asks_for_it_too(dashboard: Dashboard) -> None:
    own, elsewhere = f"http://{dashboard.host}", "http://evil.example"
    for headers in ({}, {"Origin": own}, {"Origin": elsewhere, "Cookie": cookie_of(dashboard)}):
        with pytest.raises(HTTPClientError, match="403"):
            asyncio.run(first_message(dashboard, "/eventstream", **headers))
    with pytest.raises(HTTPClientError, match="403"):
        asyncio.run(first_message(dashboard, f"/eventstream?token={dashboard.token}", Origin=elsewhere))
    message = asyncio.run(first_message(dashboard, "/eventstream", Cookie=cookie_of(dashboard), Origin=own))
    assert json.loads(message)["name"] in ("add_worker", "pong")


def test_the_websocket_of_the_pages_themselves_asks_for_it_too(dashboard: Dashboard) -> None:
    urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open(dashboard.printed).close()  # bokeh is there
    with pytest.raises(HTTPClientError, match="403"):
        asyncio.run(first_message(dashboard, "/status/ws", Origin=f"http://{dashboard.host}"))
    with pytest.raises(HTTPClientError, match="403"):
        asyncio.run(first_message(dashboard, "/status/ws", Cookie=cookie_of(dashboard), Origin="http://evil.example"))


STRANGER = """
import encodings.idna, os, sys, urllib.error, urllib.request
os.setgroups([]); os.setgid(12345); os.setuid(12345)
for path in sys.argv[2:]:
    try:
        print(urllib.request.urlopen(sys.argv[1] + path).read().decode())
    except urllib.error.HTTPError as error:
        print(error.code)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")
def test_another_user_of_this_machine_sees_no_text_of_an_exception(dashboard: Dashboard) -> None:
    command = [sys.executable, "-c", STRANGER, dashboard.base, "/info/main/exceptions.html", "/exceptions", "/health"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/")
    assert done.stdout.split() == ["403", "403", "ok"]
