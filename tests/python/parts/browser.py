"""Headless Chromium, driven by the WebDriver protocol of W3C: Debian's chromedriver, spoken to over HTTP."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from parts.process import DEADLINE_S, clean_environment, end, last_words, start, wait_until

Json = dict[str, Any]

# W3C WebDriver, 12.2: the member that holds an element's name.
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_WIDTH, _HEIGHT = 1_200, 1_000


def needs_chromium() -> None:
    """Skips the test, with the reason, where there is no Chromium: installing it takes more than a minute."""
    if not (shutil.which("chromedriver") and shutil.which("chromium")):
        pytest.skip("chromium and chromedriver are not installed; `make browser` installs them and runs this")


class Browser:
    """A tab."""

    def __init__(self, address: str) -> None:
        self._address = address
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            f"--window-size={_WIDTH},{_HEIGHT}",
        ]
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments, "binary": shutil.which("chromium")},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{made['sessionId']}"

    def open(self, url: str) -> None:
        """Goes to an address."""
        self._ask("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function body of JavaScript returns in the page."""
        return self._ask("POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector: str) -> str:
        """The text that a person sees of the first element; empty if there is none."""
        return str(self.run("const it = document.querySelector(arguments[0]); return it ? it.innerText : ''", selector))

    def waits_for(self, selector: str, text: str = "") -> str:
        """Waits until an element is there, and shows a text; returns all of its text."""

        def look() -> str | None:
            seen = self.text(selector)
            return seen if seen and text in seen else None

        return wait_until(look, f"{selector} to show {text!r}")

    def click(self, selector: str) -> None:
        """Clicks, as a person would: what is hidden or covered cannot be clicked."""
        found = self._ask("POST", f"{self._session}/element", {"using": "css selector", "value": selector})
        self._ask("POST", f"{self._session}/element/{found[_ELEMENT]}/click", {})

    def write(self, selector: str, text: str) -> None:
        """Types into a field."""
        found = self._ask("POST", f"{self._session}/element", {"using": "css selector", "value": selector})
        self._ask("POST", f"{self._session}/element/{found[_ELEMENT]}/value", {"text": text})

    def emulate(self, *, dark: bool = False, width: int = _WIDTH, height: int = _HEIGHT) -> None:
        """Another colour scheme, another size of the screen."""
        self._devtools("Emulation.setEmulatedMedia", features=[_feature("prefers-color-scheme", dark)])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._devtools("Emulation.setDeviceMetricsOverride", **size)

    def picture(self, file: Path) -> bytes:
        """A PNG of what is seen, also kept as a file."""
        png = base64.b64decode(self._ask("GET", f"{self._session}/screenshot"))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png)
        return png

    def complaints(self) -> list[Json]:
        """What the console says since it was asked last."""
        lines: list[Json] = self._ask("POST", f"{self._session}/se/log", {"type": "browser"})
        return lines

    def requests(self) -> list[str]:
        """The addresses that the page has asked for since it was asked last."""
        lines = self._ask("POST", f"{self._session}/se/log", {"type": "performance"})
        messages = [json.loads(line["message"])["message"] for line in lines]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def close(self) -> None:
        """Ends the browser."""
        self._ask("DELETE", self._session)

    def _devtools(self, method: str, **parameters: Any) -> None:
        self._ask("POST", f"{self._session}/goog/cdp/execute", {"cmd": method, "params": parameters})

    def _ask(self, method: str, path: str, body: Json | None = None) -> Any:
        request = urllib.request.Request(
            self._address + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=2 * DEADLINE_S) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {error.read().decode(errors='replace')}") from None


def _feature(name: str, dark: bool) -> Json:
    return {"name": name, "value": "dark" if dark else "light"}


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser of its own, without a history."""
    process = start(["chromedriver", "--port=0"], folder=folder, environment=clean_environment(folder), talks=True)
    try:
        port = _port(process, folder)
        tab = Browser(f"http://127.0.0.1:{port}")
        try:
            yield tab
        finally:
            tab.close()
    finally:
        end(process)


def _port(process: subprocess.Popen[str], folder: Path) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        if "started successfully on port" in line:
            return int(line.rstrip().rstrip(".").rpartition(" ")[2])
    raise AssertionError(f"chromedriver did not start: {last_words(folder)}")
