"""Names of sources and hosts: file paths, pipes, URLs, loopback addresses."""

from __future__ import annotations

import ipaddress
import stat
from pathlib import Path

from moodring.errors import UsageError, printable

STANDARD_INPUT = "/dev/stdin"
DEVICE_NAMES = ("default", "none")


def is_url(source: str) -> bool:
    """Return whether a source is a URL rather than a file or a device. A file that exists under this name is a file."""
    return "://" in source and not file_mode(source)


def is_pipe(source: str) -> bool:
    """Return whether a source is a named pipe, or standard input or another descriptor that is a pipe."""
    return stat.S_ISFIFO(file_mode(source))


def is_recording(source: str) -> bool:
    """Return whether a source is an existing file or a pipe. `default`, `none` and an index always name a device."""
    return source not in DEVICE_NAMES and not source.isdigit() and _is_readable(file_mode(source))


def check_path(source: str) -> None:
    """Raise UsageError where a source that is not a URL is neither a file nor a pipe."""
    if is_url(source):
        return
    name, mode = printable(source), file_mode(source)
    if not mode:
        raise UsageError(f"{name}: no such file")
    if stat.S_ISDIR(mode):
        raise UsageError(f"{name} is a directory; name a media file or a stream URL")
    if not _is_readable(mode):
        raise UsageError(f"{name} is neither a file nor a pipe; name a media file or a stream URL, or a device with --video")


def _is_readable(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode)


def file_mode(source: str) -> int:
    """Return the mode of a file, or 0 where there is none, or where its name is too long or not valid."""
    try:
        return Path(source).stat().st_mode
    except (OSError, ValueError):
        return 0


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`, a name or an IP address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
