"""From the configuration of the page to a server that listens, and the words that say where."""

from __future__ import annotations

from collections.abc import Callable

from moodring.address import is_loopback
from moodring.config import PageConfig
from moodring.dashboard.guard import create_guard, token_path
from moodring.dashboard.server import PageServer
from moodring.errors import UsageError
from moodring.publish.base import PageContent


def open_page(config: PageConfig, content: PageContent, log: Callable[[str], None]) -> PageServer:
    """Return a server that listens. UsageError where a preview would leave this machine, PublishError otherwise."""
    on_loopback = is_loopback(config.host)
    if content.previews and not on_loopback:
        raise UsageError(f"--preview shows the camera's picture on this machine alone; page.host is {config.host}")
    server = PageServer(config.host, config.port, create_guard(config.host, config.name, config.token_file), content, log)
    server.open()
    log(f"page on {server.address}")
    if content.previews:
        log("the page shows the camera's picture (--preview); it is not stored, and every event says that it is shown")
    if not on_loopback:
        log(
            f"the page is open to the network on {config.host}: it asks for the token in {token_path(config.token_file)}. "
            "There is no TLS: who listens on that network can read events and token; better a proxy with TLS, or an SSH tunnel"
        )
    return server
