"""Routes of the server: static files and the HTTP interface, except the WebSocket. openapi.json describes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moodring.dashboard.feed import Feed
from moodring.dashboard.guard import Guard
from moodring.dashboard.http import HttpError, Request, Response, json_response, upgrade_required
from moodring.publish.base import MuteControl

FOLDER = Path(__file__).resolve().parent
LIVE_PATH = "/api/v1/live"
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}
DEVICES = ("camera", "microphone")


def read_files() -> dict[str, Response]:
    """Return the response for every file of the page by its request path. The server serves no other files."""
    files = sorted((FOLDER / "static").iterdir())
    responses = {f"/{file.name}": Response(200, file.read_bytes(), CONTENT_TYPES[file.suffix]) for file in files}
    responses["/"] = responses.pop("/index.html")
    responses["/openapi.json"] = Response(200, (FOLDER / "openapi.json").read_bytes(), CONTENT_TYPES[".json"])
    return responses


class Routes:
    """Answers every request except the WebSocket upgrade. `mutes` and `previews` are keyed by stream name (HOST/STREAM)."""

    def __init__(
        self,
        guard: Guard,
        feed: Feed,
        mutes: Mapping[str, MuteControl],
        previews: Mapping[str, Callable[[], bytes | None]],
        log: Callable[[str], None],
    ) -> None:
        self._guard = guard
        self._feed = feed
        self._mutes = mutes
        self._previews = previews
        self._log = log
        self._files = read_files()
        self.build = hashlib.sha256(b"".join(file.body for file in self._files.values())).hexdigest()[:12]
        self._endpoints: dict[str, tuple[str, Callable[[Request], Response]]] = {
            "/api/v1/state": ("GET", self._state),
            "/api/v1/preview": ("GET", self._preview),
            "/api/v1/mute": ("POST", self._mute),
            "/api/v1/login": ("POST", self._login),
        }

    def respond(self, request: Request) -> Response:
        """Return the response to a request with a valid Host and Origin. Raises HttpError if the request is rejected."""
        file = self._files.get(request.path)
        method, handler = ("GET", lambda _: file) if file else self._endpoints.get(request.path, ("", None))
        if request.path == LIVE_PATH:
            method, handler = "GET", self._no_upgrade
        if handler is None:
            raise HttpError(404, "there is no such path")
        allowed = ("GET", "HEAD") if method == "GET" else (method,)
        if request.method not in allowed:
            raise HttpError(405, f"this path supports {' and '.join(allowed)} only", (("Allow", ", ".join(allowed)),))
        if not file and request.path != "/api/v1/login":
            self._guard.check_token(request.headers)
        response = handler(request)
        assert response is not None  # noqa: S101  for the type checker
        return response

    @staticmethod
    def _no_upgrade(_request: Request) -> Response:
        raise upgrade_required()

    def _state(self, _request: Request) -> Response:
        return json_response(200, {"anti_forgery": self._guard.csrf_token, "streams": self._feed.latest_events()})

    def _preview(self, request: Request) -> Response:
        name = request.query.removeprefix("stream=").replace("%2F", "/")
        preview = self._previews.get(name)
        if preview is None:
            raise HttpError(404, "there is no preview of this stream; start moodring with --preview")
        jpeg = preview()
        if jpeg is None:
            return Response(204)
        return Response(200, jpeg, "image/jpeg")

    def _mute(self, request: Request) -> Response:
        self._guard.check_csrf_token(request.headers)
        payload = _read_object(request, {"stream": str, "device": str, "muted": bool})
        stream, device, muted = payload["stream"], payload["device"], payload["muted"]
        if device not in DEVICES:
            raise HttpError(400, f"device must be one of {', '.join(DEVICES)}")
        control = self._mutes.get(stream)
        if control is None:
            known = stream in self._feed.streams
            raise HttpError(409 if known else 404, "a recording cannot be muted" if known else "there is no such stream")
        if not control.mute(device, muted):
            raise HttpError(409, f"this stream has no {device}")
        self._log(f"stream {stream}: {device} {'muted' if muted else 'unmuted'} on the page")
        return json_response(200, {"stream": stream, "device": device, "muted": muted})

    def _login(self, request: Request) -> Response:
        payload = _read_object(request, {"token": str})
        return Response(204, headers=(("Set-Cookie", self._guard.create_session_cookie(payload["token"])),))


def _read_object(request: Request, fields: Mapping[str, type]) -> dict[str, Any]:
    """Return the JSON object in the body. Raises HttpError unless it holds exactly these fields with these types."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HttpError(415, "the body must be application/json")
    try:
        payload = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise HttpError(400, "the body is not valid JSON") from error
    if not isinstance(payload, dict) or payload.keys() != fields.keys():
        raise HttpError(400, f"the body must be an object with exactly these fields: {', '.join(fields)}")
    for name, kind in fields.items():
        if type(payload[name]) is not kind:
            raise HttpError(400, f"{name} must be {'true or false' if kind is bool else 'a string'}")
    return payload
