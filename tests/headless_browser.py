"""A headless Chromium, driven through a pair of pipes: what a page logs, asks for, looks like and how wide it is."""

import base64
import contextlib
import json
import os
import select
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)
PATIENCE_SECONDS = 120


@dataclass
class Page:
    """What became of a page.

    Attributes:
        dom: its HTML after its scripts ran.
        messages: what it wrote to the console, exceptions and the browser's own complaints.
        requests: addresses it asked for, without the file itself and data inside it.
        overflow_pixels: by how much it is wider than the window.
        picture: a PNG of the whole page.
        answer: what the given script returned.
    """

    dom: str
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    overflow_pixels: int = 0
    picture: bytes = b""
    answer: Any = None


class Browser:
    """Starts `executable` with an empty profile in `profile`; see `open`. The browser's protocol is that of its developer tools."""

    def __init__(self, executable: str, profile: Path) -> None:
        from_browser, browser_out = os.pipe()
        browser_in, to_browser = os.pipe()

        def take_places() -> None:  # the browser reads from 3 and writes to 4, whatever the numbers here
            reading, writing = os.dup(browser_in), os.dup(browser_out)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self.process = subprocess.Popen(
            [executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            close_fds=False,
            preexec_fn=take_places,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(browser_in)
        os.close(browser_out)
        self.reading, self.writing = from_browser, to_browser
        self.buffer = b""
        self.number = 0
        self.events: list[dict[str, Any]] = []

    def open(self, address: str, width: int, *, scheme: str = "light", script: str = "null", print_media: bool = False) -> Page:
        """Open a page in a window of `width` pixels, run `script` in it, and look at it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.events = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable", session)
        self.call("Emulation.setDeviceMetricsOverride", session, width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setScrollbarsHidden", session, hidden=True)  # whether they take room depends on the system
        self.call(
            "Emulation.setEmulatedMedia",
            session,
            media="print" if print_media else "",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.call("Page.navigate", session, url=address)
        self.wait_for("Page.loadEventFired")
        answer = self.evaluate(session, script)
        dom = self.evaluate(session, "document.documentElement.outerHTML")
        overflow = self.evaluate(session, "document.documentElement.scrollWidth - document.documentElement.clientWidth")
        size = self.call("Page.getLayoutMetrics", session)["cssContentSize"]
        whole = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        picture = self.call("Page.captureScreenshot", session, format="png", captureBeyondViewport=True, clip=whole)["data"]
        self.call("Target.closeTarget", targetId=target)
        messages, requests = [], []
        for event in self.events:
            method, values = event["method"], event["params"]
            if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                messages.append(json.dumps(values))
            if method == "Network.requestWillBeSent":
                requests.append(values["request"]["url"])
        requests = [url for url in requests if url != address and not url.startswith("data:")]
        return Page(dom, messages, requests, overflow, base64.b64decode(picture), answer)

    def evaluate(self, session: str, script: str) -> Any:
        outcome = self.call("Runtime.evaluate", session, expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in outcome, outcome
        return outcome["result"].get("value")

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, (method, answer)
                return answer["result"]

    def wait_for(self, method: str) -> None:
        while not any(event["method"] == method for event in self.events):
            self.receive()

    def receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.reading], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            received = os.read(self.reading, 1 << 20)
            assert received, "the browser has ended"
            self.buffer += received
        text, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message

    def close(self) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self.call("Browser.close")
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.reading)
        os.close(self.writing)
