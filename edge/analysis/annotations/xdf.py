"""XDF files with the streams that the Lab Streaming Layer sink publishes.

Format: XDF 1.0, https://github.com/sccn/xdf/wiki/Specifications.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from xml.sax.saxutils import escape

from moodring import __version__
from moodring.analysis.annotations.intervals import Annotations, Track, plain
from moodring.analysis.annotations.moments import EXPRESSION, Result

FILE_HEADER, STREAM_HEADER, SAMPLES, CLOCK_OFFSET, STREAM_FOOTER = 1, 2, 3, 4, 6  # tags of chunks
NO_EVENT = "no_event"  # the marker of a gap in the events, and of their end


def xdf(annotations: Annotations) -> bytes:
    """Return an XDF file: for each track a stream of probabilities and a stream of markers.

    Probabilities are a float32 sample for each event, with a channel for each label, NaN without a result. Markers are a string
    for each change of the label, or of the state where there is none; `no_event` where events are missing, and at the end.
    """
    chunks = [_chunk(FILE_HEADER, b"<?xml version='1.0'?><info><version>1.0</version></info>")]
    clock = plain(annotations.clock)
    for number, track in enumerate(annotations.tracks):
        name = "moodring" if track.name == EXPRESSION else f"moodring {track.name}"
        labels, times = track.labels, track.moments.times_ms
        pack = struct.Struct(f"<{len(labels)}f").pack
        probabilities = (pack(*_probabilities(moment.results.get(track.tier), labels)) for moment in track.moments)
        if labels:
            info = (
                f"<type>Expression</type><channel_count>{len(labels)}</channel_count><channel_format>float32</channel_format>"
            )
            chunks += _stream(2 * number + 1, _header(name, info, clock, labels), times, probabilities)
        markers = list(_markers(track))
        values = [_string(plain(marker)) for _, marker in markers]
        info = "<type>Markers</type><channel_count>1</channel_count><channel_format>string</channel_format>"
        header = _header(f"{name} markers", info, clock)
        chunks += _stream(2 * number + 2, header, [time_ms for time_ms, _ in markers], values)
    return b"XDF:" + b"".join(chunks)


def _probabilities(result: Result | None, labels: Sequence[str]) -> list[float]:
    return [math.nan if result is None else result.probabilities.get(label, math.nan) for label in labels]


def _markers(track: Track) -> Iterator[tuple[int, str]]:
    """Yield the time of each change and what is valid from then on."""
    last, end_ms = NO_EVENT, 0
    for moment, hold_ms in zip(track.moments, track.holds_ms, strict=True):
        if not hold_ms:  # another moment has the same time
            continue
        if moment.time_ms > end_ms and last != NO_EVENT:
            yield end_ms, NO_EVENT
            last = NO_EVENT
        result = moment.results.get(track.tier)
        marker = result.label if result else _state(track, moment.state)
        if marker != last:
            yield moment.time_ms, marker
        last, end_ms = marker, moment.time_ms + hold_ms
    if last != NO_EVENT:
        yield end_ms, NO_EVENT


def _state(track: Track, state: str) -> str:
    """Return the marker of an event without a result: its state, or for one branch that it is not used."""
    return state if track.tier == EXPRESSION or state != "ok" else f"no_{track.tier}"


def _header(name: str, info: str, clock: str, labels: Sequence[str] = ()) -> bytes:
    """Return the XML of a stream header; `info` has what differs between kinds of streams, `labels` are those of channels."""
    channels = "".join(
        f"<channel><label>{escape(plain(label))}</label><unit>probability</unit><type>Expression</type></channel>"
        for label in labels
    )
    return (
        f"<?xml version='1.0'?><info><name>{escape(name)}</name>{info}<nominal_srate>0</nominal_srate>"
        f"<source_id>{escape(name)}</source_id><desc><manufacturer>moodring</manufacturer><version>{__version__}</version>"
        f"<clock>{escape(clock)}</clock>{f'<channels>{channels}</channels>' if labels else ''}</desc></info>"
    ).encode()


def _stream(number: int, header: bytes, times_ms: Sequence[int], values: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks of one stream. Each value is the content of a sample."""
    ident = struct.pack("<I", number)
    yield _chunk(STREAM_HEADER, ident + header)
    if times_ms:
        stamped = (b"\x08" + struct.pack("<d", ms / 1000) + value for ms, value in zip(times_ms, values, strict=True))
        yield _chunk(CLOCK_OFFSET, ident + struct.pack("<dd", times_ms[0] / 1000, 0.0))  # all streams have one clock
        yield _chunk(SAMPLES, ident + _length(len(times_ms)) + b"".join(stamped))
    first, last = (times_ms[0] / 1000, times_ms[-1] / 1000) if times_ms else (0.0, 0.0)
    footer = (
        f"<?xml version='1.0'?><info><first_timestamp>{first}</first_timestamp><last_timestamp>{last}</last_timestamp>"
        f"<sample_count>{len(times_ms)}</sample_count><clock_offsets></clock_offsets></info>"
    )
    yield _chunk(STREAM_FOOTER, ident + footer.encode())


def _chunk(tag: int, content: bytes) -> bytes:
    return _length(len(content) + 2) + struct.pack("<H", tag) + content


def _string(text: str) -> bytes:
    content = text.encode()
    return _length(len(content)) + content


def _length(count: int) -> bytes:
    """Return a count as XDF writes it: the number of its bytes, 1, 4 or 8, and the bytes."""
    size, code = (1, "B") if count < 1 << 8 else (4, "I") if count < 1 << 32 else (8, "Q")
    return bytes([size]) + struct.pack(f"<{code}", count)
