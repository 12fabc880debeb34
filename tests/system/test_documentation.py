"""The built documentation in a real browser: nothing comes from outside."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.browser import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and keeps its requests to itself."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The documentation, built and served on loopback."""
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    handler = functools.partial(QuietHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("page", ["", "tutorial/first-batch/", "reference/python/", "explanation/architecture/"])
async def test_a_page_of_the_documentation_needs_nothing_from_outside(site: str, page: str) -> None:
    """Each page opens without complaint and asks no other host for anything."""
    async with chromium() as browser:
        visit = await browser.open(f"{site}/{page}")
    assert (visit.complaints, visit.outside_requests) == ([], [])
    assert "Carpool" in visit.text


async def test_the_browser_does_tell_complaints_and_outside_requests(tmp_path: Path) -> None:
    """The measure itself: a page that does what pages must not do is caught at it."""
    page = tmp_path / "bad.html"
    page.write_text("<script>console.error('no'); x.y()</script><img src='http://127.0.0.1:9/a.png'>", encoding="utf-8")
    async with chromium() as browser:
        visit = await browser.open(page.as_uri())
    assert visit.outside_requests == ["http://127.0.0.1:9/a.png"]
    assert len(visit.complaints) >= 2
