"""The report of a batch as HTML: headline, shares, index, a multiple for each file or group, failures and settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from moodring.analysis.summary import counted
from moodring.dashboard.batch.figures import BatchFigures, FileFigures, Multiple, mean_shares, shares
from moodring.dashboard.batch.strips import WIDTH, Strip
from moodring.dashboard.document import DISPLAY_NAMES, PLAIN, bar, document, fill, format_duration
from moodring.errors import printable

NOTICE = (
    "Visible and audible expression as moodring published it, not what a person feels. Shares are of rows with a label: a row "
    "is a time step of a recording, or a face of an image."
)
STYLE = Path(__file__).resolve().parents[1] / "batch.css"
MIN_SHARE = 0.005  # of a label beside a strip: smaller ones print as 0 %
MAX_NAMES = 200  # of the files of one group
MAX_FAILURES = 1000
MAX_TICKS = 4  # of a time axis, after 0
TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


def render(name: str, figures: BatchFigures) -> str:
    """Return the report as HTML. The same arguments give the same bytes. `name` is that of the output folder."""
    title = f"{printable(name)}: moodring batch"
    parts = [
        f'<header><h1>{escape(title)}</h1><p class="headline">{escape(headline(figures))}</p><p>{NOTICE}</p></header>',
        "<main>",
        *_overview(figures),
        *_index(figures),
        *_multiples(figures),
        *_failures(figures.failures),
        _settings(figures.record),
        "</main>",
    ]
    return document(title, "\n".join(parts), STYLE.read_text(encoding="utf-8"))


def headline(figures: BatchFigures) -> str:
    """Return what the batch did and found, in words."""
    files, failed = figures.files, len(figures.failures)
    images = sum(file.is_image for file in files)
    kinds = [counted(len(files) - images, "recording")] if len(files) > images or not images else []
    kinds += [counted(images, "image")] if images else []
    duration = format_duration(round(1000 * sum(file.duration_s for file in files if not file.is_image)))
    sentences = [f"{len(files)} of {counted(len(files) + failed, 'file')} analysed: {' and '.join(kinds)}, {duration} in all"]
    rows, labelled = sum(file.rows for file in files), sum(file.labelled_rows for file in files)
    found = [f"{label} ({percent(share)})" for label, share in shares(files, figures.labels).items() if share >= MIN_SHARE]
    if found:
        sentences.append(f"{percent(labelled / rows)} of the rows have a label; the most frequent: {', '.join(found[:3])}")
    else:
        sentences.append("No row has a label")
    sentences.append(f"{counted(failed, 'file')} failed" if failed else "No file failed")
    missing = sum(bool(file.missing) for file in files)
    if missing:
        sentences.append(f"{counted(missing, 'file')} had absent, lost or damaged parts")
    return ". ".join(sentences) + "."


def percent(share: float) -> str:
    """Return a share in [0, 1] as percent, without decimals."""
    return f"{100 * share:.0f} %"


def _overview(figures: BatchFigures) -> Iterator[str]:
    all_shares, means = shares(figures.files, figures.labels), mean_shares(figures.files, figures.labels)
    yield '<section><h2>Shares</h2><div class="columns"><div><h3>Expression</h3>'
    if all_shares:
        yield (
            '<table><thead class="share-head"><tr><th scope="col">label</th><td></td><th scope="col">of all rows</th>'
            '<th scope="col">mean of files</th></tr></thead><tbody>'
        )
        for k, label in enumerate(figures.labels):
            share = all_shares[label]
            yield (
                f'<tr><th scope="row" class="bar-name">{_key(figures.labels, k)}{escape(printable(label))}</th>'
                f'<td class="bar">{bar(fill(figures.labels, k), share)}</td>'
                f"<td>{100 * share:.1f} %</td><td>{100 * means[label]:.1f} %</td></tr>"
            )
        yield "</tbody></table>"
    else:
        yield "<p>none</p>"
    yield "</div>"
    total = figures.states.total()
    if total:
        rows = "".join(
            f'<tr><th scope="row">{escape(printable(DISPLAY_NAMES.get(state, state)))}</th>'
            f'<td class="bar">{bar(PLAIN, count / total)}</td><td>{100 * count / total:.1f} %</td></tr>'
            for state, count in sorted(figures.states.items(), key=lambda item: (-item[1], item[0]))
        )
        yield f"<div><h3>State</h3><table><tbody>{rows}</tbody></table></div>"
    yield "</div></section>"


def _index(figures: BatchFigures) -> Iterator[str]:
    what = "Groups" if figures.group else "Files"
    yield f'<section id="index"><h2>{what}</h2><nav aria-label="{what}"><ol class="names">'
    for k, multiple in enumerate(figures.multiples):
        found = shares(multiple.files, figures.labels)
        yield (
            f'<li><a href="#m{k}">{escape(printable(multiple.name))}</a><span>{escape(_first(found))}</span>'
            f"{_stack(found, figures.labels)}</li>"
        )
    yield "</ol></nav>"
    if figures.omitted:
        advice = "" if figures.group else "; group them with --group COLUMN"
        yield f'<p class="note">and {figures.omitted} more, which are in the tables and in the shares above{advice}</p>'
    yield "</section>"


def _multiples(figures: BatchFigures) -> Iterator[str]:
    if not figures.multiples:
        return
    yield "<div>"  # the legend stays in view within it
    intro = "Labels over the time of each recording."
    if figures.group:
        intro = "Share of each label at each time from the start, over the recordings that last as long."
    if any(multiple.strip for multiple in figures.multiples):
        yield f'<h2 class="over">Over time</h2><p class="soft">{intro} Blank: no label.</p>'
    seen = shares(figures.files, figures.labels)
    keys = "".join(
        f"<li>{_key(figures.labels, k)}{escape(printable(label))}</li>"
        for k, label in enumerate(figures.labels)
        if seen.get(label)
    )
    yield (
        f'<ul class="shares legend" aria-label="Legend">{keys}</ul><div class="multiples">'
        if keys
        else '<div class="multiples">'
    )
    for k, multiple in enumerate(figures.multiples):
        yield from _multiple(k, multiple, figures)
    yield "</div></div>"


def _multiple(k: int, multiple: Multiple, figures: BatchFigures) -> Iterator[str]:
    found = shares(multiple.files, figures.labels)
    yield f'<article id="m{k}"><h3>{escape(printable(multiple.name))}</h3><p class="soft">{escape(_extent(multiple))}</p>'
    yield _strip(multiple.strip, figures.labels) if multiple.strip else _stack(found, figures.labels)
    shown = [label for label in found if found[label] >= MIN_SHARE]
    places = {label: place for place, label in enumerate(figures.labels)}
    items = "".join(
        f"<li>{_key(figures.labels, places[label])}{escape(printable(label))} {percent(found[label])}</li>" for label in shown
    )
    yield f'<ul class="shares">{items}<li class="up"><a href="#index">index</a></li></ul>'
    if figures.group:
        yield from _names(multiple.files)
    elif multiple.files[0].missing:
        yield f'<p class="soft">missing: {escape(printable(multiple.files[0].missing))}</p>'
    yield "</article>"


def _names(files: Sequence[FileFigures]) -> Iterator[str]:
    yield f'<details><summary>{counted(len(files), "file")}</summary><ul class="names">'
    for file in files[:MAX_NAMES]:
        missing = f" (missing: {file.missing})" if file.missing else ""
        text = _first({file.label: file.shares[file.label]}) if file.label in file.shares else "no label"
        yield f"<li>{escape(printable(file.path + missing))}<span>{escape(text)}</span></li>"
    more = f'<p class="soft">and {len(files) - MAX_NAMES} more</p>' if len(files) > MAX_NAMES else ""
    yield f"</ul>{more}</details>"


def _first(found: Mapping[str, float]) -> str:
    label = next(iter(found), None)
    return "no label" if label is None else f"{printable(label)} {percent(found[label])}"


def _extent(multiple: Multiple) -> str:
    files = multiple.files
    rows, labelled = sum(file.rows for file in files), sum(file.labelled_rows for file in files)
    share = f"a label for {percent(labelled / rows)}" if rows else "no rows"
    if len(files) > 1:
        duration = format_duration(round(1000 * sum(file.duration_s for file in files if not file.is_image)))
        return f"{counted(len(files), 'file')}, {duration} in all, {share}"
    file = files[0]
    if file.is_image:
        return f"image, {counted(file.faces, 'face')}, {share}"
    faces = f", {counted(file.faces, 'face track')}" if file.kind == "video" else ""
    return f"{file.kind}, {format_duration(round(1000 * file.duration_s))}{faces}, {share}"


def _key(labels: Sequence[str], k: int) -> str:
    return f'<svg class="key" viewBox="0 0 1 1" aria-hidden="true"><path {fill(labels, k)} d="M0 0h1v1H0z"/></svg>'


def _stack(found: Mapping[str, float], labels: Sequence[str]) -> str:
    """Return the shares as one bar. The text beside it has the numbers."""
    left, rects = 0.0, []
    for k, label in enumerate(labels):
        width = 100 * found.get(label, 0.0)
        if width >= 0.05:
            rects.append(f'<rect {fill(labels, k)} x="{left:.1f}" width="{width:.1f}" height="8"/>')
        left += width
    svg = '<svg class="stack" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
    return f"{svg}{''.join(rects)}</svg>"


def _strip(strip: Strip, labels: Sequence[str]) -> str:
    """Return the labels over time with their axis. Each shape has the name of its label as title."""
    paths = "".join(
        f'<path {fill(labels, k)} d="{strip.shapes[label]}"><title>{escape(printable(label))}</title></path>'
        for k, label in enumerate(labels)
        if label in strip.shapes
    )
    kind = "strip tall" if strip.height > 1 else "strip"
    length = format_duration(round(1000 * strip.length_s))
    return (
        f'<svg class="{kind}" role="img" aria-label="Labels over {length}" viewBox="0 0 {WIDTH} {strip.height}" '
        f'preserveAspectRatio="none">{paths}</svg><p class="ticks" aria-hidden="true">{"".join(_ticks(strip.length_s))}</p>'
    )


def _ticks(length_s: float) -> Iterator[str]:
    step = next((step for step in TICKS_S if length_s / step < MAX_TICKS + 0.5), length_s / MAX_TICKS)
    for k in range(int(length_s / step) + 1):
        place = 100 * k * step / length_s
        if place <= 88:  # the text of a later one would not fit
            yield f'<span style="left:{place:.4g}%">{_clock(k * step, length_s)}</span>'


def _clock(time_s: float, length_s: float) -> str:
    if length_s < 120:
        return f"{time_s:.3g} s"
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if length_s >= 3600 else f"{minutes}:{seconds:02d}"


def _failures(failures: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield '<section id="failures"><h2>Failures</h2>'
    if failures:
        rows = "".join(
            f'<tr><th scope="row">{escape(printable(path))}</th><td>{escape(printable(reason))}</td></tr>'
            for path, reason in failures[:MAX_FAILURES]
        )
        yield f'<div class="wide"><table><tbody>{rows}</tbody></table></div>'
        if len(failures) > MAX_FAILURES:
            yield f'<p class="note">and {len(failures) - MAX_FAILURES} more, see failures.csv</p>'
    else:
        yield "<p>none</p>"
    yield "</section>"


def _settings(record: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in record.items() if name not in ("format", "state", "result", "parts")}
    facts = "".join(
        f"<div><dt>{escape(printable(name))}</dt><dd>{escape(printable(value))}</dd></div>" for name, value in _flat(shown)
    )
    return f'<section id="settings"><h2>Settings</h2><dl>{facts}</dl></section>'


def _flat(record: Mapping[str, Any], where: str = "") -> Iterable[tuple[str, str]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{where}{name}.".removeprefix("settings."))
        elif value is not None:
            yield f"{where}{name}", ("yes" if value else "no") if isinstance(value, bool) else str(value)
