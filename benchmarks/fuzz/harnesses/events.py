"""Recorded event files: any bytes as a file for the report and for the playback on the page.

Rules: only EventError, for a file without emotion events; whatever is not an event is counted; an event that follows on its own
line is always read; the report is one HTML file without scripts; the page gets valid JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

from benchmarks.fuzz.documents import mutate_document
from benchmarks.fuzz.harness import Harness, require
from moodring.dashboard import report
from moodring.dashboard.feed import Feed
from moodring.dashboard.recording import UTF_16_MARKS, RecordedEvent, Skipped, read_events
from moodring.errors import EventError
from moodring.publish.cloudevents import to_json
from tests.support.page import custom_event, event, status

REPORT_COLUMNS = 8  # of the timeline: fewer than a real report has, for speed
LAST = to_json(event(77, "sad", source="/moodring/last/last/1"))
TAG = re.compile(r"<([^\s>]*)([^>]*)>")
QUOTED = re.compile(r'"[^"]*"')
TAGS = {
    "!doctype", "html", "head", "meta", "title", "style", "body", "header", "main", "section", "h1", "h2", "h3", "p", "dl",
    "dt", "dd", "div", "svg", "path", "rect", "span", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
ATTRIBUTES = {
    "html", "lang", "charset", "name", "content", "http-equiv", "class", "role", "aria-label", "aria-hidden", "viewBox", "d",
    "preserveAspectRatio", "fill", "width", "height", "scope",
}  # fmt: skip
VALUES = (
    "happy", "<script>", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59", "2026-01-02", "2026-01-02T03:04:05Z",
    "moodring.emotion.v2", "moodring.status.v1", "/moodring/", 1e-320,
)  # fmt: skip


class _Browser:
    """Receives what the page sends."""

    def __init__(self) -> None:
        self.messages = 0

    def send(self, data: bytes) -> None:
        require(bool(data), "an empty message")
        self.messages += 1


def _report(path: Path, out: Path) -> None:
    try:
        with contextlib.redirect_stderr(io.StringIO()), mock.patch.object(report, "COLUMNS", REPORT_COLUMNS):
            report.write_report(path, out)
    except EventError:
        return
    for tag, attributes in TAG.findall(out.read_text(encoding="utf-8")):
        require(tag.removeprefix("/") in TAGS, f"the report contains the tag {tag}")
        names = {name.partition("=")[0] for name in QUOTED.sub("", attributes).split()}
        require(names <= ATTRIBUTES, f"the tag {tag} has the attributes {names}")


def _play(events: Iterable[RecordedEvent]) -> None:
    feed, browser = Feed(dict, None), _Browser()
    feed.join(browser)
    for recorded in events:
        feed.broadcast(recorded.published)
    feed.join(browser)
    json.dumps(feed.latest_events(), allow_nan=False)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Replace one value of one event by another, or remove or repeat a line."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    if rng.random() < 0.2:
        lines[at : at + 1] = [lines[at]] * rng.choice((0, 2))
        return b"\n".join(lines)
    try:
        document = json.loads(lines[at])
    except (ValueError, RecursionError):
        return data
    mutate_document(document, rng, VALUES)
    lines[at] = json.dumps(document, separators=(",", ":"), ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    return b"\n".join(lines)


def make(folder: Path) -> Harness:
    """Return the harness."""
    path, out = folder / "events.jsonl", folder / "report.html"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        skipped = Skipped()
        events = list(read_events(path, skipped))
        has_text = bool(data.strip(b" \r\n\t\v\f"))
        require(
            bool(events or skipped.counts or not has_text or data.decode("utf-8", "replace").isspace()), "nothing is counted"
        )
        str(skipped)
        _report(path, out)
        _play(events)
        if data[:2] not in UTF_16_MARKS:
            path.write_bytes(data + b"\n" + LAST.encode() + b"\n")
            require([*read_events(path)][-1].text == LAST, "the event after the damage is lost")

    dropped = status(dropped={"frames_overwritten": 5})
    events = (event(0), event(1, None), event(2, "sad"), status(), custom_event(3, "cross"), dropped)
    lines = [to_json(each).encode() for each in events]
    whole = b"\n".join([*lines, b""])
    seeds = [*lines, whole, b"\xef\xbb\xbf" + whole, whole.decode().encode("utf-16"), whole.replace(b"\n", b"\0\0\0"),
             b"".join(lines), lines[0][:200] + lines[1] + b"\nTraceback (most recent call last):\n" + lines[2]]  # fmt: skip
    words = [b'{"specversion"', b"\0", b"\xef\xbb\xbf", b"\n", b"moodring.emotion.v1", b"moodring.status.v1", b"null", b"NaN",
             b'"probabilities":', b'"devices":', b"1e999", b"\\ud800", b"[[[[[[[[", b'"time":"']  # fmt: skip
    return Harness(check, seeds, words, mutate, max_bytes=10_000)
