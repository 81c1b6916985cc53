"""A browser for tests of pages: headless Chromium, driven through a pipe by the Chrome DevTools protocol."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)
BESIDE = '"$@" 3<&"$IN" 4>&"$OUT"'  # the protocol speaks on these two descriptors


class Tab:
    """An open page.

    Attributes:
        problems: what its console said and what went wrong in it, as text.
    """

    def __init__(self, requests: int, replies: int) -> None:
        self._requests, self._replies = os.fdopen(requests, "wb"), os.fdopen(replies, "rb")
        self._numbers, self._rest = itertools.count(1), b""
        self._session: str | None = None
        self.problems: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What a method of the protocol answers."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._requests.write(json.dumps(message).encode() + b"\0")
        self._requests.flush()
        while (reply := self._next()).get("id") != number:
            self._note(reply)
        assert "error" not in reply, reply
        return reply["result"]

    def open(self, path: Path, width: int, dark: bool = False) -> None:
        """Load a file into a window of some pixels, and wait until it is there."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.as_uri())
        while (event := self._next()).get("method") != "Page.loadEventFired":
            self._note(event)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, of a promise too."""
        reply = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            block = self._replies.read1()
            assert block, "the browser is gone"
            self._rest += block
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.problems.append(json.dumps(event["params"]))


@contextlib.contextmanager
def browser() -> Iterator[Tab]:
    """Chromium with an empty page, without a network; it ends with the body."""
    there, requests = os.pipe()
    replies, back = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = ["bash", "-c", f"exec {BESIDE}", "bash", str(CHROMIUM), *OPTIONS, f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            command,
            env={**os.environ, "IN": str(there), "OUT": str(back)},
            pass_fds=(there, back),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there)
        os.close(back)
        try:
            tab = Tab(requests, replies)
            yield tab
            tab.call("Browser.close")
        finally:
            process.terminate()
            process.wait(timeout=30)
