"""Which tracks of a recording or network stream are read, and what a file without a header does not state."""

from __future__ import annotations

import re
from dataclasses import dataclass

from moodring.capture.downmix import MAX_CHANNELS
from moodring.errors import UsageError

RAW_AUDIO = re.compile(
    r"(?P<format>[su]8|(?:[su](?:16|24|32)|f(?:32|64))(?:le|be)|mulaw|alaw):(?P<rate_hz>[1-9][0-9]{3,5}):(?P<channels>[1-9][0-9]?)"
)


@dataclass(frozen=True, slots=True)
class RawAudio:
    """The format of samples in a file without a header: FFmpeg's name of the format, sample rate and channel count."""

    format: str
    rate_hz: int
    channels: int

    @classmethod
    def parse(cls, text: str) -> RawAudio:
        """Read FORMAT:RATE:CHANNELS, for example s16le:16000:1. Raises UsageError."""
        match = RAW_AUDIO.fullmatch(text)
        if match is None or int(match["channels"]) > MAX_CHANNELS:
            raise UsageError(
                f"{text!r} is not FORMAT:RATE:CHANNELS, for example s16le:16000:1; formats are s8, u8, mulaw, alaw, and "
                f"s16, s24, s32, u16, u24, u32, f32 and f64 with le or be; at most {MAX_CHANNELS} channels"
            )
        return cls(match["format"], int(match["rate_hz"]), int(match["channels"]))


@dataclass(frozen=True, slots=True)
class Selection:
    """What the user chose of a source. None is the default.

    A track is an index among the tracks of its kind, from 0. `frame_rate` in frames a second is that of video without time
    stamps. `raw_audio` makes a file without a header readable as sound.
    """

    video_track: int | None = None
    audio_track: int | None = None
    frame_rate: float | None = None
    raw_audio: RawAudio | None = None


DEFAULT_SELECTION = Selection()
