"""Report of a recorded event file as one HTML file without scripts: `moodring report EVENTS.jsonl --html OUT`."""

from __future__ import annotations

import datetime as dt
import sys
from html import escape
from pathlib import Path

from moodring.dashboard.document import DISPLAY_NAMES, PLAIN, bar, document, fill, format_duration, write_document
from moodring.dashboard.recording import MAX_REPLAY_TIME_MS, Skipped, read_events
from moodring.dashboard.summary import Summary, summarize_streams
from moodring.errors import EventError, printable
from moodring.process import log

COLUMNS, HEIGHT = 480, 150  # of the timeline
NO_VALUE = "-"
NOTICE = "Visible and audible expression as moodring published it, not what a person feels. Shares are shares of time."
MAX_DEVICE_CHANGES = 200  # listed for each stream


def write_report(events: Path, out: Path) -> int:
    """Summarise an event file and write the report. Return the exit code.

    Raises UsageError if the event file cannot be read, EventError for a file without emotion events.
    """
    skipped = Skipped()
    summaries = summarize_streams(read_events(events, skipped))
    if not summaries:
        raise EventError("; ".join(filter(None, [f"{events} contains no emotion event", str(skipped)])))
    write_document(out, render_report(printable(events.name), summaries, str(skipped)))
    print(f"wrote {out}: {sum(summary.events for summary in summaries)} events of {len(summaries)} streams", file=sys.stderr)
    if skipped.counts:
        log(f"{events}: {skipped}")
    return 0


def render_report(title: str, summaries: list[Summary], skipped: str = "") -> str:
    """Return the report as HTML; `skipped` names the skipped parts of the file. The same arguments give the same bytes."""
    sections = "\n".join(map(_section, summaries))
    damage = f"<p>{escape(skipped)}</p>" if skipped else ""
    header = f"<h1>{escape(title)}</h1><p>{NOTICE}</p>{damage}"
    return document(f"{title}: moodring report", f"<header>{header}</header>\n<main>\n{sections}\n</main>")


def _section(summary: Summary) -> str:
    begin, end = summary.times_ms[0], summary.times_ms[-1]
    labelled_ms = sum(summary.label_ms.values())
    confidence = f"{100 * summary.confidence_ms / labelled_ms:.0f} %" if labelled_ms else NO_VALUE
    labels_ms = [(label, summary.label_ms[label]) for label in summary.labels]
    p50, p99 = summary.latency_ms(0.5), summary.latency_ms(0.99)
    facts = [
        ("From", _format_time(begin)),
        ("To", _format_time(end)),
        ("Length", format_duration(end - begin)),
        ("Events", f"{summary.events:,}".replace(",", " ")),
        ("Runs", str(summary.runs)),
        ("Mean confidence", confidence),
        ("Latency", NO_VALUE if p50 is None or p99 is None else f"{p50:.1f} ms, 99 % within {p99:.1f} ms"),
        *([("Preview", "the page showed the camera image")] if summary.had_preview else []),
    ]
    return f"""<section>
<h2>{escape(summary.name)}</h2>
<dl>{"".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)}</dl>
<h3>Timeline</h3>
{_timeline(summary)}
<div class="columns">
<div><h3>Expression</h3>{_share_table(labels_ms, labelled_ms, colored=True)}</div>
<div><h3>State</h3>{_share_table(_sorted_by_count(summary.state_ms), summary.covered_ms)}
<h3>Modalities used</h3>{_share_table(_sorted_by_count(summary.modality_ms), labelled_ms)}</div>
</div>
<h3>Transitions</h3>
{_transitions(summary)}
<div class="columns">
<div><h3>Dropped data</h3>{_dropped(summary)}</div>
<div><h3>Devices</h3>{_devices(summary)}</div>
</div>
</section>"""


def _timeline(summary: Summary) -> str:
    """Return the timeline as stacked columns, like the live page; a gap stays blank."""
    labels = summary.labels
    shapes: list[list[str]] = [[] for _ in labels]
    for x, column in enumerate(summary.mean_probabilities(COLUMNS)):
        bottom = float(HEIGHT)
        for i, p in enumerate(column or ()):
            top = max(0.0, bottom - p * HEIGHT)
            if bottom - top >= 0.05:
                shapes[i].append(f"M{x} {bottom:.1f}V{top:.1f}h1V{bottom:.1f}z")
            bottom = top
    paths = "".join(f'<path {fill(labels, k)} d="{"".join(shape)}"/>' for k, shape in enumerate(shapes) if shape)
    longest = max(labels, key=lambda label: summary.label_ms[label])
    length = format_duration(summary.times_ms[-1] - summary.times_ms[0])
    text = escape(f"Probabilities over {length}; longest label: {longest}")
    return (
        f'<svg class="timeline" role="img" aria-label="{text}" viewBox="0 0 {COLUMNS} {HEIGHT}" preserveAspectRatio="none">'
        f'{paths}</svg><p class="axis"><span>{_format_time(summary.times_ms[0])}</span>'
        f"<span>{_format_time(summary.times_ms[-1])}</span></p>"
    )


def _sorted_by_count(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _share_table(parts: list[tuple[str, int]], total_ms: int, *, colored: bool = False) -> str:
    if not total_ms:
        return "<p>none</p>"
    names = [name for name, _ in parts]
    rows = "".join(
        f'<tr><th scope="row">{escape(name if colored else DISPLAY_NAMES.get(name, name))}</th>'
        f'<td class="bar">{bar(fill(names, k) if colored else PLAIN, part / total_ms)}</td>'
        f"<td>{100 * part / total_ms:.1f} %</td><td>{format_duration(part)}</td></tr>"
        for k, (name, part) in enumerate(parts)
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _transitions(summary: Summary) -> str:
    if not summary.transitions:
        return "<p>none</p>"
    present = [label for label in summary.labels if any(label in pair for pair in summary.transitions)]
    head = "".join(f'<th scope="col">{escape(label)}</th>' for label in present)
    rows = "".join(
        f'<tr><th scope="row">{escape(before)}</th>'
        + "".join(f"<td>{summary.transitions[before, after] or '·'}</td>" for after in present)
        + "</tr>"
        for before in present
    )
    table = f"<thead><tr><td>from, to</td>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="wide"><table class="matrix">{table}</table></div>'


def _dropped(summary: Summary) -> str:
    counts = {reason: count for reason, count in summary.dropped.items() if count}
    if not counts:
        return "<p>no drops reported</p>"
    rows = "".join(
        f'<tr><th scope="row">{escape(reason.replace("_", " "))}</th><td>{n}</td></tr>'
        for reason, n in _sorted_by_count(counts)
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _devices(summary: Summary) -> str:
    rows = "".join(
        f'<tr><td>{_format_time(change.time_ms)}</td><th scope="row">{escape(change.device)}</th>'
        f"<td>{escape(change.state)}</td></tr>"
        for change in summary.devices[:MAX_DEVICE_CHANGES]
    )
    omitted = len(summary.devices) - MAX_DEVICE_CHANGES
    return f"<table><tbody>{rows}</tbody></table>" + (f"<p>and {omitted} more</p>" if omitted > 0 else "")


def _format_time(time_ms: int) -> str:
    if time_ms < MAX_REPLAY_TIME_MS:
        return f"{format_duration(time_ms)} from the start"
    return dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
