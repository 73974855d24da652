"""A real browser without a window: the system's Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

SKIP_REASON = "Chromium or Playwright is not installed (Debian: chromium; pip install playwright axe-playwright-python)"
EXECUTABLE_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def executable() -> str | None:
    return next(filter(None, map(shutil.which, EXECUTABLE_NAMES)), None)


def is_available() -> bool:
    try:
        import axe_playwright_python  # noqa: F401, PLC0415
        import playwright  # noqa: F401, PLC0415
    except ImportError:
        return False
    return executable() is not None


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Start the browser; a page opened in it asks nobody but the address it is given."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=as_root)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def tab(browser: Any, *, expect_refused: bool = False, **options: Any) -> Iterator[Any]:
    """Open a tab and hold it, at its end, to having logged nothing and to having asked one host alone.

    The browser logs every request that is refused: `refused` expects them. It also has an opinion on how tests read pixels.
    """
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 860}} | options))
    opened = context.new_page()
    logged: list[str] = []
    hosts: set[str] = set()
    opened.on("console", lambda message: logged.append(message.text))
    opened.on("pageerror", lambda error: logged.append(str(error)))
    opened.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    try:
        yield opened
    finally:
        context.close()
    expected = ("Canvas2D: Multiple readback", *(("Failed to load resource", "WebSocket connection") if expect_refused else ()))
    assert not [line for line in logged if not line.startswith(expected)], logged
    assert len(hosts) <= 1, hosts
