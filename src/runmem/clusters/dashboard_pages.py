"""The pages of Dask's dashboard, imported when somebody asks for one: few runs are looked at, and bokeh is large."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

from tornado.web import Application, RequestHandler

__all__ = ["PAGES_LATER", "offer_pages"]

PAGES_LATER = {"dashboard": False}
"""What a `distributed.Scheduler` is given so that it serves its numbers over HTTP and imports no pages."""


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
        self.redirect(self.request.uri)


def offer_pages(scheduler: Any) -> None:
    """Have a scheduler that was started with `PAGES_LATER` serve Dask's dashboard from the first visit on.

    Parameters
    ----------
    scheduler : distributed.Scheduler
    """
    scheduler.http_application.add_application(Application([(r"/.*", _FirstVisit, {"scheduler": scheduler})]))
