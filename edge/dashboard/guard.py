"""Access control of the page.

Checks the Host header (DNS rebinding), the Origin header and an anti-forgery value (cross-site requests), and off loopback a
token.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from moodring.address import is_loopback
from moodring.dashboard.http import HttpError
from moodring.errors import ConfigError, UsageError
from moodring.folders import state_dir

COOKIE = "moodring"
MIN_TOKEN_CHARS = 16
CSRF_HEADER = "x-moodring-anti-forgery"
SCHEMES = ("http", "https")  # https: behind a proxy


@dataclass(frozen=True, slots=True)
class Guard:
    """Checks of one server. Each `check_` method raises HttpError if it rejects the request.

    `token` is None on loopback, where no token is required. `allowed_hosts` are the accepted host names in lower case.
    """

    token: str | None
    allowed_hosts: frozenset[str]
    csrf_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def check_host(self, headers: Mapping[str, str], local_address: str) -> None:
        """Reject an unknown host name: another site can resolve its own name to this server (DNS rebinding)."""
        name = _host_name(headers.get("host", ""))
        if name not in self.allowed_hosts and name != local_address.lower():
            raise HttpError(421, "the Host header does not name this server; to allow a name, set page.name")

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Reject a request that a page of another origin sends. Programs other than browsers send no Origin header."""
        origin = headers.get("origin")
        own_origins = [f"{scheme}://{headers.get('host', '').lower()}" for scheme in SCHEMES]
        is_foreign = origin is not None and origin.lower() not in own_origins
        is_cross_site = headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
        if is_foreign or (is_cross_site and headers.get("sec-fetch-mode") != "navigate"):
            raise HttpError(403, "requests from another origin are not allowed")

    def check_token(self, headers: Mapping[str, str]) -> None:
        """Reject a request with neither the token nor the session cookie."""
        if self.token is None:
            return
        scheme, _, credentials = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(credentials.strip(), self.token):
            return
        cookies = dict(part.strip().partition("=")[::2] for part in headers.get("cookie", "").split(";"))
        if not _equal(cookies.get(COOKIE, ""), _session_id(self.token)):
            raise _unauthorized("the token is required; moodring logs the path of the token file at its start")

    def check_csrf_token(self, headers: Mapping[str, str]) -> None:
        """Reject a change without the anti-forgery value. Pages of other origins cannot read this value."""
        if not _equal(headers.get(CSRF_HEADER, ""), self.csrf_token):
            raise HttpError(403, f"the header {CSRF_HEADER} is missing or wrong; GET /api/v1/state returns its value")

    def create_session_cookie(self, token: str) -> str:
        """Return the Set-Cookie value of a session; raise HttpError if the token is wrong."""
        if self.token is not None and not _equal(token, self.token):
            raise _unauthorized("the token is wrong")
        return f"{COOKIE}={_session_id(self.token or '')}; Path=/; HttpOnly; SameSite=Strict"


def create_guard(host: str, name: str, token_file: str) -> Guard:
    """Return the guard of a server that listens on `host`.

    Off loopback, read the token from its file, or create the file with a new token. `name` is one more accepted host name, or
    "none". Raises ConfigError if the token file is unusable.
    """
    allowed_hosts = {"localhost", "127.0.0.1", "::1", host.lower(), *([name.lower()] if name != "none" else [])}
    if is_loopback(host):
        return Guard(None, frozenset(allowed_hosts))
    machine = socket.gethostname().lower()
    allowed_hosts |= {machine, f"{machine.split('.')[0]}.local"}
    return Guard(_read_or_make_token(token_path(token_file)), frozenset(allowed_hosts))


def token_path(token_file: str) -> Path:
    """Return the path of the token file. `token_file` is the value of page.token_file: a path, or "default"."""
    if token_file != "default":  # noqa: S105  a path
        return Path(token_file)
    try:
        return state_dir() / "page-token"
    except UsageError as error:
        raise ConfigError(f"page.token_file is default, and {error}, or set page.token_file") from error


def _read_or_make_token(path: Path) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            token = path.read_text(encoding="ascii").strip()
        else:
            token = secrets.token_urlsafe(32)
            with os.fdopen(handle, "w") as file:
                file.write(token + "\n")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not ASCII text"
        raise ConfigError(f"page.token_file {path} cannot be used: {reason}") from error
    if len(token) < MIN_TOKEN_CHARS:
        raise ConfigError(f"page.token_file {path} holds {len(token)} characters; write a token of at least {MIN_TOKEN_CHARS}")
    return token


def _unauthorized(reason: str) -> HttpError:
    return HttpError(401, reason, (("WWW-Authenticate", "Bearer"),))


def _session_id(token: str) -> str:
    """Return the value of the session cookie. It stays valid after a restart and does not reveal the token."""
    return hashlib.sha256(b"moodring page session\0" + token.encode()).hexdigest()


def _equal(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(), right.encode())


def _host_name(host: str) -> str:
    """Return the name in a Host header: lower case, without port and brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host
