"""Who may ask: Host against DNS rebinding, Origin and an anti-forgery value against other pages, a token off loopback."""

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
from moodring.errors import ConfigError

COOKIE = "moodring"
MIN_TOKEN_CHARS = 16
CSRF_HEADER = "x-moodring-anti-forgery"


@dataclass(frozen=True, slots=True)
class Guard:
    """`token` is None on loopback, where none is needed; `names` are what the server may be called, in lower case."""

    token: str | None
    allowed_hosts: frozenset[str]
    csrf_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def check_host(self, headers: Mapping[str, str], local_address: str) -> None:
        """Refuse a name that is not ours: a page of another site may have made it point here (DNS rebinding)."""
        name = _host_name(headers.get("host", ""))
        if name not in self.allowed_hosts and name != local_address.lower():
            raise HttpError(421, "this server does not go by that name; see page.name in the configuration")

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Refuse what a page of another origin sends; programs that are no browsers name none."""
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (
            f"{scheme}://{headers.get('host', '').lower()}" for scheme in _SCHEMES
        ):
            raise HttpError(403, "pages of another origin may not ask")
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none") and headers.get("sec-fetch-mode") != "navigate":
            raise HttpError(403, "pages of another origin may not ask")

    def check_token(self, headers: Mapping[str, str]) -> None:
        """Refuse whoever does not show the token, or the cookie that it was exchanged for."""
        if self.token is None:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _equal(given.strip(), self.token):
            return
        cookies = dict(part.strip().partition("=")[::2] for part in headers.get("cookie", "").split(";"))
        if not _equal(cookies.get(COOKIE, ""), _session_id(self.token)):
            raise HttpError(401, "this needs the token that moodring names at its start", (("WWW-Authenticate", "Bearer"),))

    def check_csrf_token(self, headers: Mapping[str, str]) -> None:
        """Refuse a change that does not carry the value which only our own page can read."""
        if not _equal(headers.get(CSRF_HEADER, ""), self.csrf_token):
            raise HttpError(403, f"a change needs the header {CSRF_HEADER}, as /api/v1/state tells it")

    def create_session_cookie(self, token: str) -> str:
        """Return the Set-Cookie value that stands for the token; Refused where it is the wrong one."""
        if self.token is not None and not _equal(token, self.token):
            raise HttpError(401, "that is not the token", (("WWW-Authenticate", "Bearer"),))
        return f"{COOKIE}={_session_id(self.token or '')}; Path=/; HttpOnly; SameSite=Strict"


_SCHEMES = ("http", "https")  # https: behind a proxy


def create_guard(host: str, name: str, token_file: str) -> Guard:
    """Return the guard of a server that listens on `host`; off loopback with the token that its file holds or now gets."""
    allowed_hosts = {"localhost", "127.0.0.1", "::1", host.lower(), *([name.lower()] if name != "none" else [])}
    if is_loopback(host):
        return Guard(None, frozenset(allowed_hosts))
    machine = socket.gethostname().lower()
    allowed_hosts |= {machine, f"{machine.split('.')[0]}.local"}
    return Guard(_read_or_make_token(token_path(token_file)), frozenset(allowed_hosts))


def token_path(token_file: str) -> Path:
    """Return the file that holds the token, which page.token_file names."""
    if token_file != "default":  # noqa: S105  a path
        return Path(token_file).expanduser()
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "moodring" / "page-token"


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
        why = getattr(error, "strerror", None) or "it does not hold plain ASCII"
        raise ConfigError(f"page.token_file {path} cannot be used: {why}") from error
    if len(token) < MIN_TOKEN_CHARS:
        raise ConfigError(f"page.token_file {path} holds {len(token)} characters; a token needs at least {MIN_TOKEN_CHARS}")
    return token


def _session_id(token: str) -> str:
    """What the cookie holds: it outlives a restart of the daemon, and does not tell the token."""
    return hashlib.sha256(b"moodring page session\0" + token.encode()).hexdigest()


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _host_name(host: str) -> str:
    """Return the name of a Host header without its port, in lower case and without brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host
