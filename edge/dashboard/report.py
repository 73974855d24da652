"""`moodring report EVENTS.jsonl --html OUT`: a recording on one page that needs no script, no server and no network."""

from __future__ import annotations

import datetime as dt
import sys
from html import escape
from pathlib import Path

from moodring.dashboard.recording import read_events
from moodring.dashboard.summary import Summary, summarise
from moodring.errors import EventError
from moodring.labels import LABELS

COLUMNS = 480  # of the timeline
HEIGHT = 150
NONE = "-"
REPLAYED_MS = 366 * 24 * 3600 * 1000  # times before 1971 are a replayed recording's, from its start
NOTICE = "What moodring published: visible and audible expression, not what anybody felt. Shares are shares of time."
MOST_NOTES = 200  # of a stream's devices
WORDS = {
    "ok": "an answer",
    "no_signal": "no device",
    "no_face": "no face in view",
    "no_speech": "nobody speaks",
    "face": "the face alone",
    "speech": "the voice alone",
    "face and speech": "face and voice",
}
STYLE = Path(__file__).resolve().parent / "report.css"


def write_report(events: Path, out: Path) -> int:
    """Summarise a file of events and write the page; EventError where a line is no event, or there is none."""
    summaries = summarise(read_events(events))
    if not summaries:
        raise EventError(f"{events} holds no emotion event")
    out.write_text(page(events.name, summaries), encoding="utf-8")
    print(f"wrote {out}: {sum(one.events for one in summaries)} events of {len(summaries)} streams", file=sys.stderr)
    return 0


def page(title: str, summaries: list[Summary]) -> str:
    """Return the whole page as HTML; the same summaries give the same bytes."""
    sections = "\n".join(map(_section, summaries))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title)}: what moodring published</title>
<style>
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<header><h1>{escape(title)}</h1><p>{NOTICE}</p></header>
<main>
{sections}
</main>
</body>
</html>
"""


def _section(one: Summary) -> str:
    begin, end = one.times_ms[0], one.times_ms[-1]
    answered_ms = sum(one.label_ms.values())
    confidence = f"{100 * one.confidence_ms / answered_ms:.0f} %" if answered_ms else NONE
    p50, p99 = one.latency_ms(0.5), one.latency_ms(0.99)
    facts = [
        ("From", _utc(begin)),
        ("To", _utc(end)),
        ("Length", _length(end - begin)),
        ("Events", f"{one.events:,}".replace(",", " ")),
        ("Runs", str(one.runs)),
        ("Mean confidence", confidence),
        ("Latency", NONE if p50 is None or p99 is None else f"{p50:.1f} ms, 99 % within {p99:.1f} ms"),
        *([("Preview", "the page showed the camera's picture")] if one.had_preview else []),
    ]
    return f"""<section>
<h2>{escape(one.name)}</h2>
<dl>{"".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)}</dl>
<h3>Timeline</h3>
{_timeline(one)}
<div class="columns">
<div><h3>Expression</h3>{_shares([(label, one.label_ms[label]) for label in LABELS], answered_ms, coloured=True)}</div>
<div><h3>State</h3>{_shares(_by_size(one.state_ms), one.spoken_ms)}
<h3>Answered from</h3>{_shares(_by_size(one.modality_ms), answered_ms)}</div>
</div>
<h3>Transitions</h3>
{_transitions(one)}
<div class="columns">
<div><h3>Captured and not used</h3>{_dropped(one)}</div>
<div><h3>Devices</h3>{_devices(one)}</div>
</div>
</section>"""


def _timeline(one: Summary) -> str:
    """Stacked columns, as the live page draws them; a gap is left blank."""
    shapes: list[list[str]] = [[] for _ in LABELS]
    for x, column in enumerate(one.columns(COLUMNS)):
        bottom = float(HEIGHT)
        for i, p in enumerate(column or ()):
            top = max(0.0, bottom - p * HEIGHT)
            if bottom - top >= 0.05:
                shapes[i].append(f"M{x} {bottom:.1f}V{top:.1f}h1V{bottom:.1f}z")
            bottom = top
    paths = "".join(
        f'<path class="{label}" d="{"".join(shape)}"/>' for label, shape in zip(LABELS, shapes, strict=True) if shape
    )
    most = max(LABELS, key=lambda label: one.label_ms[label])
    text = f"Probabilities over {_length(one.times_ms[-1] - one.times_ms[0])}; most of the time {most}"
    return (
        f'<svg class="timeline" role="img" aria-label="{text}" viewBox="0 0 {COLUMNS} {HEIGHT}" preserveAspectRatio="none">'
        f'{paths}</svg><p class="axis"><span>{_utc(one.times_ms[0])}</span><span>{_utc(one.times_ms[-1])}</span></p>'
    )


def _by_size(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _shares(parts: list[tuple[str, int]], whole_ms: int, *, coloured: bool = False) -> str:
    if not whole_ms:
        return "<p>none</p>"
    rows = "".join(
        f'<tr><th scope="row">{escape(WORDS.get(name, name))}</th>'
        f'<td class="bar"><svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="8"/>'
        f'<rect class="{name if coloured else "plain"}" width="{100 * part / whole_ms:.2f}" height="8"/></svg></td>'
        f"<td>{100 * part / whole_ms:.1f} %</td><td>{_length(part)}</td></tr>"
        for name, part in parts
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _transitions(one: Summary) -> str:
    if not one.transitions:
        return "<p>none</p>"
    present = [label for label in LABELS if any(label in pair for pair in one.transitions)]
    head = "".join(f'<th scope="col">{label}</th>' for label in present)
    rows = "".join(
        f'<tr><th scope="row">{before}</th>'
        + "".join(f"<td>{one.transitions[before, after] or '·'}</td>" for after in present)
        + "</tr>"
        for before in present
    )
    table = f"<thead><tr><td>from, to</td>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="wide"><table class="matrix">{table}</table></div>'


def _dropped(one: Summary) -> str:
    counts = {reason: count for reason, count in one.dropped.items() if count}
    if not counts:
        return "<p>nothing that a status told of</p>"
    rows = "".join(
        f'<tr><th scope="row">{escape(reason.replace("_", " "))}</th><td>{n}</td></tr>' for reason, n in _by_size(counts)
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _devices(one: Summary) -> str:
    rows = "".join(
        f'<tr><td>{_utc(note.time_ms)}</td><th scope="row">{escape(note.device)}</th><td>{escape(note.state)}</td></tr>'
        for note in one.devices[:MOST_NOTES]
    )
    left = len(one.devices) - MOST_NOTES
    return f"<table><tbody>{rows}</tbody></table>" + (f"<p>and {left} more</p>" if left > 0 else "")


def _utc(time_ms: int) -> str:
    if time_ms < REPLAYED_MS:
        return f"{_length(time_ms)} from the start"
    return dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _length(length_ms: int) -> str:
    seconds = length_ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
