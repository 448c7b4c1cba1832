"""Serves Dask's dashboard to holders of the run's token. Imports bokeh, which is large, at the first visit."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

from tornado.web import Application, RequestHandler

from runmem.clusters.dashboard_token import relative_url, require_token

__all__ = ["WITHOUT_PAGES", "WITHOUT_ROUTES", "serve_pages"]

WITHOUT_PAGES = {"dashboard": False}
"""Arguments of a `distributed.Scheduler` that does not import the pages."""

_ROUTES = "distributed.scheduler.http.routes"
_HEALTH = "distributed.http.health"
WITHOUT_ROUTES = {_ROUTES: [_HEALTH]}
"""Dask's configuration during the start of a scheduler: its HTTP server listens before it can require a token."""


class _FirstVisit(RequestHandler):  # type: ignore[misc]  # mypy skips tornado
    """Replaces itself by Dask's pages, and redirects the visitor to them."""

    def initialize(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    async def get(self) -> None:
        name = "distributed.dashboard.scheduler"
        pages = await asyncio.get_running_loop().run_in_executor(
            None, import_module, name
        )  # not blocking the scheduler
        served = self._scheduler.http_application
        if self.application in served.applications:  # still the first visit
            served.applications.remove(self.application)
            pages.connect(served, self._scheduler.http_server, self._scheduler)
        self.redirect(relative_url(self.request.path, self.request.query))


def serve_pages(scheduler: Any) -> str:
    """Serve metrics and Dask's dashboard from a scheduler started with `WITHOUT_PAGES` and `WITHOUT_ROUTES`.

    Parameters
    ----------
    scheduler : distributed.Scheduler

    Returns
    -------
    str
        Token required for all pages except ``/health``.
    """
    from dask import config
    from distributed.http.utils import get_handlers

    token = require_token(scheduler.http_server)
    routes = [route for route in config.get(_ROUTES) if route != _HEALTH]
    scheduler.http_application.add_handlers(".*$", get_handlers(scheduler, routes, prefix=None))
    scheduler.http_application.add_application(Application([(r"/.*", _FirstVisit, {"scheduler": scheduler})]))
    return token
