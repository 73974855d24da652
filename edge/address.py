"""Names of sources and hosts: file paths, URLs, loopback addresses."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from moodring.errors import UsageError


def is_url(source: str) -> bool:
    """Return whether a source is a URL rather than a file or a device."""
    return "://" in source


def check_path(source: str) -> None:
    """Raise UsageError where a source that is not a URL does not exist or is a directory."""
    if is_url(source):
        return
    path = Path(source)
    if not path.exists():
        raise UsageError(f"{source}: no such file")
    if path.is_dir():
        raise UsageError(f"{source} is a directory; name a media file or a stream URL")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`, a name or an IP address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
