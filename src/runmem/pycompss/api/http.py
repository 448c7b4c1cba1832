"""`pycompss.api.http`."""

from runmem.commands.decorators import http

HTTP = http
Http = http

__all__ = ["http", "HTTP", "Http"]
