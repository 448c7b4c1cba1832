"""`@http` against a real server in this process."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from runmem.commands.decorators import http
from runmem.errors import CommandError, TaskDeclarationError
from runmem.graph.directions import FILE_IN, INOUT
from runmem.graph.task import task


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        kind, _, rest = unquote(self.path).lstrip("/").partition("/")
        if kind == "length":
            self.answer(str(len(rest)))
        elif kind == "echo":
            self.answer(rest)
        elif kind == "form":
            self.answer(json.dumps({"length": len(rest), "child": {"message": rest, "list": [1, {"x": 2}]}}))
        else:
            self.answer("no such thing", 404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
        self.answer(json.dumps({"body": body, "type": self.headers["Content-Type"]}))

    def answer(self, text, code=200):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass


@pytest.fixture(autouse=True)
def service(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("RUNMEM_HTTP_SERVICE_1", address + "/")
    yield address
    server.shutdown()
    server.server_close()
    thread.join()


def get(resource, **options):
    return http(service_name="service_1", request="GET", resource=resource, **options)


def test_the_response_is_the_value():
    @get("length/{{message}}")
    @task(returns=int)
    def length(message):
        pass

    @get("echo/{{message}}")
    @task(returns=str)
    def echo(message):
        pass

    assert length("four") == 4
    assert echo("a/b c?") == "a/b c?"
    assert echo("12") == "12"


def test_values_are_found_in_the_form_of_the_response():
    @get("form/{{message}}", produces="{'length': '{{return_1}}', 'child': {'message': '{{return_0}}'}}")
    @task(returns=2)
    def both(message):
        pass

    @get("form/{{message}}", produces='{"child": {"list": [1, {"x": "{{return_0}}"}]}}')
    @task(returns=1)
    def nested(message):
        pass

    assert both("abc") == ["abc", 3]
    assert nested("abc") == 2


def test_a_dictionary_among_the_arguments_is_updated():
    @get("form/test", produces="{'child': {'message': '{{param}}'}}", updates="{{event}}.third = {{param}}")
    @task(event=INOUT)
    def updated(event):
        pass

    event = {"first": 1}
    updated(event)
    assert event == {"first": 1, "third": "test"}


@pytest.mark.parametrize(("payload", "body"), [("text", "text"), ({"a": [1]}, '{"a": [1]}'), (5, "5")])
def test_the_payload_is_a_parameter(payload, body):
    @http(service_name="service_1", request="POST", resource="post/", payload="{{what}}")
    @task(returns=dict)
    def posted(what):
        pass

    assert posted(payload) == {"body": body, "type": "application/json"}


def test_the_payload_can_be_a_template_or_a_file():
    @http(service_name="service_1", request="POST", resource="post/", payload='{"x": {{what}}}', payload_type="text/x")
    @task(returns=dict)
    def template(what):
        pass

    @http(service_name="service_1", request="post", resource="post/", payload="{{path}}")
    @task(returns=dict, path=FILE_IN)
    def file(path):
        pass

    Path("text").write_text("content")
    assert template([1]) == {"body": '{"x": [1]}', "type": "text/x"}
    assert file("text")["body"] == "content"


def test_a_service_can_be_an_address(service):
    @http(service_name=service, request="GET", resource="echo/x")
    @task(returns=str)
    def echo():
        pass

    assert echo() == "x"


@pytest.mark.parametrize(
    ("name", "resource", "text"),
    [
        ("service_1", "other", "other gave 404 Not Found: no such thing"),
        ("service_2", "x", "set RUNMEM_HTTP_SERVICE_2 to it"),
        ("http://127.0.0.1:9", "x", "GET http://127.0.0.1:9/x failed"),
        ("file:///etc", "passwd", "is not the address of an HTTP service"),
    ],
)
def test_a_failure_is_an_error(service, name, resource, text):
    @http(service_name=name, request="GET", resource=resource)
    @task(returns=1)
    def called():
        pass

    with pytest.raises(CommandError, match=text):
        called()


def test_a_parameter_that_there_is_not_is_an_error():
    with pytest.raises(TaskDeclarationError, match="names 'other'"):

        @get("echo/{{other}}")
        @task()
        def called():
            pass
