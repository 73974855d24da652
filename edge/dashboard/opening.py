"""Start of the page: creates the server from its configuration and logs the address."""

from __future__ import annotations

from collections.abc import Callable

from moodring.address import is_loopback
from moodring.config import PageConfig
from moodring.dashboard.guard import create_guard, token_path
from moodring.dashboard.server import PageServer
from moodring.errors import UsageError
from moodring.publish.base import PageContent


def open_page(config: PageConfig, content: PageContent, log: Callable[[str], None]) -> PageServer:
    """Return a server that listens.

    Raises UsageError for a preview on an address off loopback, ConfigError if the token file is unusable, and PublishError
    if the server cannot listen.
    """
    on_loopback = is_loopback(config.host)
    if content.previews and not on_loopback:
        raise UsageError(
            f"--preview shows the camera image on this machine only, but page.host is {config.host}; "
            "set page.host to 127.0.0.1 or remove --preview"
        )
    server = PageServer(config.host, config.port, create_guard(config.host, config.name, config.token_file), content, log)
    server.open()
    log(f"page on {server.address}")
    if content.previews:
        log("the page shows the camera image (--preview): moodring does not store it and sets `preview` in every event")
    if not on_loopback:
        log(
            f"the page on {config.host} is open to the network without TLS: it requires the token in "
            f"{token_path(config.token_file)}, but anyone who can listen on the network can read the events and the token; "
            "use an SSH tunnel or a proxy with TLS"
        )
    return server
