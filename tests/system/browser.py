"""Opens pages in a real, headless Chromium through its DevTools protocol, and tells what they did."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START_LIMIT_S = 60
ANSWER_LIMIT_S = 60
FLAGS = [
    "--headless=new",
    "--no-sandbox",  # tests may run as root, where the sandbox can't
    "--disable-gpu",
    "--hide-scrollbars",  # a phone has none that take room
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-port=0",
]


@dataclass(slots=True)
class Visit:
    """What a page did while it was open.

    Args:
        complaints: what it wrote to the console as an error or a warning, and exceptions that nobody caught.
        outside_requests: what it asked of any host but its own.
        width: how wide its content is, in CSS pixels.
        text: its text, as a reader sees it.
        screenshot: a PNG of the whole page.
    """

    complaints: list[str] = field(default_factory=list)
    outside_requests: list[str] = field(default_factory=list)
    width: int = 0
    text: str = ""
    screenshot: bytes = field(default=b"", repr=False)


class Browser:
    """One tab of a running Chromium.

    Args:
        socket: its DevTools connection.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self._visit = Visit()
        self._host = ""

    async def open(self, url: str, *, width: int = 1280, dark: bool = False) -> Visit:
        """Open a page, wait until it has loaded, and tell what it did.

        Args:
            url: its address, ``http:`` or ``file:``.
            width: of the window, in CSS pixels.
            dark: whether the reader prefers dark pages.
        """
        self._visit, self._host = Visit(), urlsplit(url).netloc
        self._loaded.clear()
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._ask("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        await self._ask("Emulation.setDeviceMetricsOverride", **size)
        await self._ask("Page.navigate", url=url)
        async with asyncio.timeout(ANSWER_LIMIT_S):
            await self._loaded.wait()
        self._visit.width = int(await self.evaluate("document.documentElement.scrollWidth"))
        self._visit.text = str(await self.evaluate("document.body.innerText"))
        picture = await self._ask("Page.captureScreenshot", captureBeyondViewport=True)
        self._visit.screenshot = base64.b64decode(picture["data"])
        return self._visit

    async def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript in the open page; a promise is awaited."""
        answer = await self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def listen(self) -> None:
        """Take in answers and events until the connection ends."""
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            else:
                self._note(said["method"], said["params"])

    async def enable(self) -> None:
        """Have the page's events told."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self._ask(f"{domain}.enable")

    def _note(self, method: str, about: dict[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Runtime.exceptionThrown":
                self._visit.complaints.append(str(about["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if about["type"] in {"error", "warning", "assert"}:
                self._visit.complaints.append(str(about["args"]))
            case "Log.entryAdded" if about["entry"]["level"] in {"error", "warning"}:
                url = about["entry"].get("url", "")
                if not url.endswith("/favicon.ico"):  # the browser's own wish, which no page expressed
                    self._visit.complaints.append(f"{about['entry']['text']} {url}")
            case "Network.requestWillBeSent" if _is_outside(about["request"]["url"], self._host):
                self._visit.outside_requests.append(about["request"]["url"])

    async def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(ANSWER_LIMIT_S):
            said = await answer
        assert "error" not in said, f"{method}: {said['error']}"
        return dict(said["result"])


def _is_outside(url: str, host: str) -> bool:
    address = urlsplit(url)
    return address.scheme in {"http", "https", "ws", "wss"} and address.netloc != host


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run Chromium with a profile of its own, and give a tab of it."""
    with tempfile.TemporaryDirectory(prefix="carpool-chromium-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            "chromium",
            *FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            port = await _debugging_port(Path(profile), process)
            async with _tab(port) as browser:
                yield browser
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


@contextlib.asynccontextmanager
async def _tab(port: int) -> AsyncIterator[Browser]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            tabs = await answer.json()
        address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        async with session.ws_connect(address, max_msg_size=0) as socket:
            browser = Browser(socket)
            listening = asyncio.create_task(browser.listen())
            await browser.enable()
            yield browser
            await socket.close()
            await listening


async def _debugging_port(profile: Path, process: asyncio.subprocess.Process) -> int:
    """Wait for the file in which Chromium names the port that it chose."""
    file = profile / "DevToolsActivePort"
    async with asyncio.timeout(START_LIMIT_S):
        while not (file.exists() and file.read_text(encoding="utf-8").count("\n")):
            assert process.returncode is None, f"chromium ended with {process.returncode} before it was ready"
            await asyncio.sleep(0.05)  # a process of its own gives no other sign
    return int(file.read_text(encoding="utf-8").splitlines()[0])
