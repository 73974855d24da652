"""The system's Chromium without a window, driven by Playwright."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

SKIP_REASON = "Chromium or Playwright is not installed (Debian: chromium; pip install playwright axe-playwright-python)"
EXECUTABLE_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def _find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, EXECUTABLE_NAMES)), None)


def is_available() -> bool:
    """Return whether Chromium, Playwright and axe are installed."""
    try:
        import axe_playwright_python  # noqa: F401, PLC0415
        import playwright  # noqa: F401, PLC0415
    except ImportError:
        return False
    return _find_chromium() is not None


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Start the browser and close it at the end."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_find_chromium(), args=as_root)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def tab(browser: Any, *, expect_refused: bool = False, **options: Any) -> Iterator[Any]:
    """Open a tab; at its end, assert that its console is empty and that it sent requests to one host only.

    `options` go to Playwright's `new_context`. With `expect_refused`, the browser's log lines about refused requests are
    accepted. The browser's warning about reading pixels, which only tests do, always is.
    """
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 860}} | options))
    page = context.new_page()
    console: list[str] = []
    hosts: set[str] = set()
    page.on("console", lambda message: console.append(message.text))
    page.on("pageerror", lambda error: console.append(str(error)))
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    try:
        yield page
    finally:
        context.close()
    expected = ("Canvas2D: Multiple readback", *(("Failed to load resource", "WebSocket connection") if expect_refused else ()))
    assert not [line for line in console if not line.startswith(expected)], console
    assert len(hosts) <= 1, hosts
