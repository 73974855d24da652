"""Recordings: any bytes as a media file, read through PyAV as `moodring run` reads it.

Rules: only MediaError and UsageError, with the name of the file; the times of video rise, those of sound go on; samples are
finite and in [-1, 1]. A crash of FFmpeg ends the process, and the supervisor keeps the file.
"""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import av.logging
import numpy as np

from benchmarks.fuzz.harness import Harness, require
from moodring.capture.media import AudioFile, VideoFile, probe
from moodring.capture.media.timeline import MAX_OVERLAP_NS, OVERLAP_INTERVAL_NS
from moodring.capture.selection import Selection
from moodring.errors import MediaError, UsageError
from moodring.types import F32, U8, AudioBlock, VideoFrame
from tests.support.media.tracks import Sound, Video, write_tracks
from tests.support.recordings import write_recording
from tests.support.signals import voice

MAX_FRAMES, MAX_BLOCKS = 60, 200  # of one input; later ones are like them
SOUND_S = 0.05
WORDS = (
    b"RIFF", b"WAVEfmt ", b"data", b"LIST", b"RF64", b"ds64", b"AVI LIST", b"hdrlavih", b"strh", b"strf", b"idx1",
    b"moov", b"mdat", b"ftypisom", b"trak", b"stsd", b"stts", b"stsz", b"stco", b"elst", b"\x1a\x45\xdf\xa3", b"\x47\x40\0\x10",
    b"OggS", b"fLaC", b"\0\0\1\xba", b"\0\0\1\x67", b"\xff\xfb\x90", b"\xff\xf1", b"\xff\xff\xff\xff",
    b"\0\0\0\0", b"\x7f\xff\xff\xff",
)  # fmt: skip
SIZES = (0, 1, 2, 3, 7, 8, 16, 64, 255, 256, 1000, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def _images(count: int) -> list[U8]:
    return [np.asarray(np.add.outer(np.arange(32), np.arange(48)) * (index + 1) % 256, np.uint8) for index in range(count)]


def _tone(seconds: float = SOUND_S) -> F32:
    return voice(seconds)


def _wav(format_tag: int, channels: int, bits: int, rate_hz: int = 16_000, data: bytes = bytes(range(200)) * 2) -> bytes:
    align = max(1, channels * bits // 8)
    header = struct.pack("<HHIIHH", format_tag, channels, rate_hz, rate_hz * align % (1 << 32), align, bits)
    chunks = b"WAVEfmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def _write_seeds(folder: Path) -> list[bytes]:
    """Return small files of several containers and codecs, each with sound, video or both."""
    frames, sound = _images(4), _tone()
    recipes: Sequence[tuple[str, Callable[[Path], Path]]] = [
        ("a.mkv", lambda path: write_recording(path, video_frames=frames, sound=sound)),
        ("b.mp4", lambda path: write_recording(path, video_frames=frames, sound=sound)),
        ("c.avi", lambda path: write_recording(path, video_frames=frames, sound=sound, audio_codec="pcm_s16le")),
        ("d.ts", lambda path: write_tracks(path, Video(frames, "mpeg2video"), Sound(sound, "mp2"))),
        ("e.flac", lambda path: write_recording(path, sound=sound)),
        ("f.mp3", lambda path: write_recording(path, sound=sound)),
        ("g.ogg", lambda path: write_recording(path, sound=sound, audio_codec="flac")),
        ("h.opus", lambda path: write_recording(path, sound=sound, rate_hz=48_000, audio_codec="libopus")),
        ("i.mov", lambda path: write_recording(path, video_frames=frames, rotation_deg=90)),
        ("j.mkv", lambda path: write_recording(path, video_frames=frames, video_codec="ffv1")),
        ("k.mkv", lambda path: write_tracks(path, Sound(sound, "flac"), Sound(sound), Video(frames, "mjpeg"))),
        ("l.m4a", lambda path: write_recording(path, sound=sound, layout="5.1")),
        ("n.mp4", lambda path: write_tracks(path, Sound(sound, "aac"), cover=frames[0])),
        ("o.webm", lambda path: write_recording(path, video_frames=frames, video_codec="libvpx")),
        ("p.h264", lambda path: write_recording(path, video_frames=frames, video_codec="libx264")),
        ("m.mpg", lambda path: write_tracks(path, Video(frames, "mpeg1video"), Sound(sound, "mp2"))),
    ]  # fmt: skip
    seeds = []
    for name, write in recipes:
        path = write(folder / name)
        seeds.append(path.read_bytes())
        path.unlink()
    return seeds


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change a size or a number of the header, cut, or repeat a part."""
    changed, choice = bytearray(data), rng.random()
    if len(changed) < 16:
        return data
    at = min(int(rng.expovariate(1 / 60)) if rng.random() < 0.6 else rng.randrange(len(changed)), len(changed) - 8)
    if choice < 0.6:
        form = rng.choice(("<I", ">I", "<H", ">H", "B"))
        value = rng.choice(SIZES) & ((1 << (8 * struct.calcsize(form))) - 1)
        struct.pack_into(form, changed, at, value)
    elif choice < 0.75:
        del changed[at : at + rng.choice((1, 2, 4, 16, 200))]
    elif choice < 0.9:
        start = rng.randrange(len(changed))
        changed[at:at] = changed[start : start + rng.choice((4, 16, 64, 188, 400))]
    else:
        del changed[rng.randrange(len(changed)) :]
    return bytes(changed)


def _check_frames(frames: Sequence[VideoFrame]) -> None:
    require(all(frame.grey.ndim == 2 and frame.grey.size for frame in frames), "a frame without pixels")
    times = [frame.capture_time_ns for frame in frames]
    require(all(after > before for before, after in itertools.pairwise(times)), f"the times of the video do not rise: {times}")


def _check_blocks(blocks: Sequence[AudioBlock]) -> None:
    require(all(bool(np.all(np.abs(block.samples) <= 1)) for block in blocks), "samples beyond full scale")
    last_ns = sound_ns = 0
    for block in blocks:
        require(block.capture_time_ns >= last_ns - MAX_OVERLAP_NS, f"the sound jumps back to {block.capture_time_ns} ns")
        last_ns = max(last_ns, block.end_time_ns)
        sound_ns += block.end_time_ns - block.capture_time_ns
    require(last_ns >= sound_ns // 2 - OVERLAP_INTERVAL_NS, f"{sound_ns} ns of sound end at {last_ns} ns")


def make(folder: Path) -> Harness:
    """Return the harness."""
    av.logging.set_level(None)
    path = folder / "fuzzed"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        selection = Selection()
        try:
            info = probe(str(path), selection)
        except (MediaError, UsageError) as error:
            require(path.name in str(error), f"no name in {error}")
            return
        if info.has_video:
            with VideoFile(str(path)) as video:
                try:
                    _check_frames([*itertools.islice(video, MAX_FRAMES)])
                except MediaError as error:
                    require(path.name in str(error), f"no name in {error}")
        if info.has_audio:
            with AudioFile(str(path)) as audio:
                try:
                    _check_blocks([*itertools.islice(audio, MAX_BLOCKS)])
                except MediaError as error:
                    require(path.name in str(error), f"no name in {error}")

    wavs = [_wav(*each) for each in (
        (1, 1, 16), (1, 2, 8), (1, 6, 16), (1, 2, 24), (3, 2, 32), (3, 1, 64), (6, 1, 8), (7, 2, 8), (0x11, 1, 4), (0x55, 1, 0),
        (1, 9, 16), (1, 64, 8), (0xFFFE, 2, 16), (1, 0, 16), (1, 1, 16, 0), (1, 1, 16, 0xFFFFFFFF), (2, 1, 4), (0x31, 1, 0),
    )]  # fmt: skip
    return Harness(check, [*wavs, *_write_seeds(folder)], WORDS, mutate, max_bytes=16_384)
