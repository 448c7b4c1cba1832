"""Tasks that are requests to an HTTP service."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from runmem.commands.call_arguments import CallArguments
from runmem.commands.containers import Container
from runmem.errors import CommandError

__all__ = ["HttpRequest", "service_variable"]

_PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][\w]*)\s*\}\}")
_UPDATE = re.compile(r"\{\{\s*(\w+)\s*\}\}((?:\.\w+)*)\s*=\s*\{\{\s*(\w+)\s*\}\}")
_RETURNED = re.compile(r"return_(\d+)")
_LONGEST_REASON = 300  # characters of a response in a message


def service_variable(service: str) -> str:
    """Return the environment variable that has the address of a service."""
    return "RUNMEM_HTTP_" + re.sub(r"\W", "_", service).upper()


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request that runs in place of a task's function.

    Attributes
    ----------
    service : str
        Name of a service whose address is in an environment variable (see `service_variable`), or an address.
    method : str
    resource : str
        Template of what follows the address.
    payload : str or None
        Template of the body; ``"{{name}}"`` alone gives a value as JSON, or the content of a file.
    payload_type : str
    produces : str or None
        The form of the response, with placeholders: ``return_0`` and so on, and names for `updates`.
    updates : str or None
        Such as ``"{{event}}.key = {{name}}"``: sets a key of a dictionary among the arguments.
    """

    service: str
    method: str
    resource: str
    payload: str | None = None
    payload_type: str = "application/json"
    produces: str | None = None
    updates: str | None = None

    def run(self, call: CallArguments, container: Container | None = None) -> object:
        """Send the request for one call and return what the response gives. Raises CommandError."""
        base = self.service if "://" in self.service else os.environ.get(service_variable(self.service))
        if not base:
            raise CommandError(
                f"{call.place}: the address of the service {self.service!r} is not known: set "
                f"{service_variable(self.service)} to it, such as http://host:8080/."
            )
        resource = _filled(self.resource, call, lambda value: quote(_text(value), safe=""))
        url = base.rstrip("/") + "/" + resource.lstrip("/")
        if not url.startswith(("http://", "https://")):
            raise CommandError(f"{call.place}: {url} is not the address of an HTTP service.")
        data = None if self.payload is None else self._body(call)
        request = Request(
            url, data, {"Content-Type": self.payload_type} if data is not None else {}, method=self.method
        )
        try:
            with urlopen(request) as response:
                body = response.read().decode(response.headers.get_content_charset() or "utf-8")
        except HTTPError as error:
            reason = error.read(_LONGEST_REASON).decode(errors="replace")
            raise CommandError(
                f"{call.place}: {self.method} {url} gave {error.code} {error.reason}: {reason}"
            ) from error
        except (URLError, OSError) as error:
            raise CommandError(f"{call.place}: {self.method} {url} failed: {error}.") from error
        return self._value(body, call)

    def _body(self, call: CallArguments) -> bytes:
        assert self.payload is not None
        alone = _PLACEHOLDER.fullmatch(self.payload.strip())
        if alone is None or alone[1] not in call.values:
            return _filled(self.payload, call, _text).encode()
        value = call.values[alone[1]]
        if call.task.signature.use_of(alone[1]).is_path:
            with open(value, "rb") as file:
                return file.read()
        return (value if isinstance(value, str) else json.dumps(value)).encode()

    def _value(self, body: str, call: CallArguments) -> object:
        """Return the values of the task from the body of a response, and update its arguments."""
        try:
            decoded = json.loads(body)
        except ValueError:
            decoded = body
        if self.produces is None:
            return body if call.task.options.get("returns") is str and not isinstance(decoded, str) else decoded
        found: dict[str, Any] = {}
        _match(_form(self.produces, call), decoded, found)
        for name, path, source in _UPDATE.findall(self.updates or ""):
            target = call.values[name]
            *above, key = path.split(".")[1:]
            for part in above:
                target = target[part]
            target[key] = _wanted(source, found, call)
        count = call.task.returns.count
        names = sorted((name for name in found if _RETURNED.fullmatch(name)), key=lambda name: int(name[7:]))
        values = [found[name] for name in names]
        return None if count == 0 else values[0] if count == 1 and values else values


def _filled(template: str, call: CallArguments, text: Callable[[object], str]) -> str:
    return _PLACEHOLDER.sub(lambda found: text(call.values.get(found[1])), os.path.expandvars(template))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _form(produces: str, call: CallArguments) -> object:
    """Return the form of a response, written as JSON or as a Python literal."""
    for read in (json.loads, ast.literal_eval):
        try:
            form: object = read(produces)
            return form
        except (ValueError, SyntaxError):
            continue
    raise CommandError(f"{call.place}: produces={produces!r} is no JSON.")


def _match(form: object, body: object, found: dict[str, Any]) -> None:
    """Collect the parts of a response that its form has placeholders for."""
    if isinstance(form, dict) and isinstance(body, dict):
        for key, part in form.items():
            if key in body:
                _match(part, body[key], found)
    elif isinstance(form, list) and isinstance(body, list):
        for part, item in zip(form, body, strict=False):
            _match(part, item, found)
    elif isinstance(form, str) and (placeholder := _PLACEHOLDER.fullmatch(form)) is not None:
        found[placeholder[1]] = body


def _wanted(name: str, found: dict[str, Any], call: CallArguments) -> Any:
    if name not in found:
        raise CommandError(f"{call.place}: the response has no {name!r}, which updates= names.")
    return found[name]
