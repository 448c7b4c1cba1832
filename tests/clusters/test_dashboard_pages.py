from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

VISITS = """
import http.cookiejar, json, sys, urllib.error, urllib.request
from concurrent.futures import ThreadPoolExecutor
from runmem.clusters.local import EmbeddedCluster
from runmem.settings import resolve

def visit(path):
    cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    try:
        with urllib.request.build_opener(cookies).open(address + path + token) as answer:
            return answer.status, answer.url.removeprefix(address).removesuffix(token), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, path, ""

if __name__ == "__main__":
    cluster = EmbeddedCluster(resolve({"workers": 1}))
    try:
        address, _, token = cluster.dashboard(cluster.connect()).partition("/status")
        assert token.startswith("?token=")
        said = {"health": visit("/health"), "bokeh_before": "bokeh" in sys.modules}
        with ThreadPoolExecutor(3) as visitors:
            said["first"] = list(visitors.map(visit, ["/status", "/", "/tasks"]))
        said |= {"bokeh_after": "bokeh" in sys.modules, "nowhere": visit("/nowhere"), "again": visit("/workers")}
        said["still_works"] = cluster.connect().submit(sum, [1, 2]).result()
    finally:
        cluster.close()
    print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the answers of a cluster's dashboard and the times at which bokeh is imported."""
    program = tmp_path_factory.mktemp("pages") / "visits.py"
    program.write_text(VISITS)
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_cluster_that_nobody_looks_at_does_without_bokeh(said: dict[str, Any]) -> None:
    assert said["health"] == [200, "/health", "ok"]
    assert (said["bokeh_before"], said["bokeh_after"]) == (False, True)


def test_visitors_who_come_at_once_all_get_their_page(said: dict[str, Any]) -> None:
    assert [(code, place) for code, place, _ in said["first"]] == [(200, "/status"), (200, "/status"), (200, "/tasks")]
    assert all("Bokeh" in page for _, _, page in said["first"])


def test_later_visitors_are_served_by_dask_alone(said: dict[str, Any]) -> None:
    assert said["again"][:2] == [200, "/workers"]
    assert said["nowhere"][0] == 404
    assert said["still_works"] == 3
