"""Dask's dashboard, for who has the token of the run, imported when somebody asks for it: bokeh is large."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

from tornado.web import Application, RequestHandler

from runmem.clusters.dashboard_token import relative, require_token

__all__ = ["WITHOUT_ROUTES", "WITHOUT_PAGES", "serve_pages"]

WITHOUT_PAGES = {"dashboard": False}
"""What a `distributed.Scheduler` is given so that it imports no pages."""

_ROUTES = "distributed.scheduler.http.routes"
_HEALTH = "distributed.http.health"
WITHOUT_ROUTES = {_ROUTES: [_HEALTH]}
"""Dask's configuration while the scheduler starts: its HTTP server listens before it can ask for a token."""


class _FirstVisit(RequestHandler):  # type: ignore[misc]  # mypy skips tornado
    """Puts Dask's pages in the place of this handler, and has the visitor ask again."""

    def initialize(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    async def get(self) -> None:
        name = "distributed.dashboard.scheduler"
        pages = await asyncio.get_running_loop().run_in_executor(None, import_module, name)  # the scheduler goes on
        served = self._scheduler.http_application
        if self.application in served.applications:  # nobody else came meanwhile
            served.applications.remove(self.application)
            pages.connect(served, self._scheduler.http_server, self._scheduler)
        self.redirect(relative(self.request.path, self.request.query))


def serve_pages(scheduler: Any) -> str:
    """Serve metrics and Dask's dashboard from a scheduler started with `WITHOUT_PAGES` and `WITHOUT_ROUTES`.

    Parameters
    ----------
    scheduler : distributed.Scheduler

    Returns
    -------
    str
        The token that every visitor must have; ``/health`` alone asks for none.
    """
    from dask import config
    from distributed.http.utils import get_handlers

    token = require_token(scheduler.http_server)
    routes = [route for route in config.get(_ROUTES) if route != _HEALTH]
    scheduler.http_application.add_handlers(".*$", get_handlers(scheduler, routes, prefix=None))
    scheduler.http_application.add_application(Application([(r"/.*", _FirstVisit, {"scheduler": scheduler})]))
    return token
