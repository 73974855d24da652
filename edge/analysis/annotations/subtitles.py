"""WebVTT and SubRip subtitles, by pysubs2 (extra `formats`)."""

from __future__ import annotations

import html

from moodring.analysis.annotations.intervals import Annotations, percent, plain
from moodring.analysis.annotations.libraries import load
from moodring.analysis.annotations.moments import EXPRESSION
from moodring.errors import UsageError

END_MS = 100 * 3600 * 1000  # the two digits of the hour end before
# SubRip has no escapes: players read < as a tag, pysubs2 reads \N as a new line.
BACKSLASH = str.maketrans({"\\": "\uff3c"})
WITHOUT_TAGS = str.maketrans({"<": "\u2039", ">": "\u203a"})


def vtt(annotations: Annotations) -> bytes:
    """Return WebVTT: a cue for each interval."""
    text = _subtitles(annotations, "vtt")
    note = html.escape(plain(f"moodring: second 0 is the {annotations.clock}"), quote=False)
    return text.replace("WEBVTT\n", f"WEBVTT\n\nNOTE {note}\n", 1).encode()


def srt(annotations: Annotations) -> bytes:
    """Return SubRip: a numbered subtitle for each interval."""
    return _subtitles(annotations, "srt").encode()


def _subtitles(annotations: Annotations, kind: str) -> str:
    if annotations.end_ms >= END_MS:
        raise UsageError(
            f"{annotations.name} has events beyond 99:59:59, which subtitles cannot hold; use elan, textgrid, bids or xdf"
        )
    pysubs2 = load("pysubs2")
    subtitles = pysubs2.SSAFile()
    for track in annotations.tracks:
        prefix = "" if len(annotations.tracks) == 1 and track.tier == EXPRESSION else f"{track.name}: "
        subtitles += [
            pysubs2.SSAEvent(one.start_ms, one.end_ms, _text(f"{prefix}{plain(one.label)} {percent(one.probability)}", kind))
            for one in track.intervals
        ]
    subtitles.sort()
    text: str = subtitles.to_string(kind, keep_ssa_tags=True, apply_styles=False)
    return text


def _text(text: str, kind: str) -> str:
    text = text.translate(BACKSLASH)
    return html.escape(text, quote=False) if kind == "vtt" else text.translate(WITHOUT_TAGS)
