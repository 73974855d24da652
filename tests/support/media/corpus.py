"""A corpus of small media files: containers, codecs, sample and pixel formats, channels, rates, time stamps, tracks, damage.

Every file derives from one clip of two seconds: a talking face at 25 frames a second with its voice. FFmpeg's command line
program encodes it; damage is done to the bytes, from a seed. `recipes` lists the files, `make` writes one,
`python -m tests.support.media.corpus DIR` writes all.
"""

from __future__ import annotations

import io
import itertools
import shutil
import struct
import subprocess
import sys
import wave
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.support.recordings import write_talking_face

SEED = 25
SECONDS = 2.0
ENCODE_TIMEOUT_S = 120.0

# Container suffix: pairs of a video and an audio codec, each with the options that it needs.
CONTAINERS: dict[str, str] = {
    "mp4": "libx264+aac mpeg4+aac libx265+aac libx264+libmp3lame libx264+ac3 mpeg4+libopus mpeg4+alac mjpeg+aac",
    "mov": "mjpeg+pcm_s16le prores+pcm_s24le libx264+alac qtrle+pcm_s16be png+pcm_f32le cinepak+adpcm_ima_qt rpza+pcm_s8",
    "mkv": "libx264+aac libx265+libopus libvpx+libvorbis mpeg2video+mp2 ffv1+flac mjpeg+pcm_s16le huffyuv+pcm_f32le "
    "libtheora+libvorbis libx264+eac3 libx264+dca msmpeg4+libmp3lame wmv2+wmav2 utvideo+pcm_s24le mpeg4+truehd snow+wavpack "
    "magicyuv+tta vc2+pcm_s32le ffvhuff+pcm_f64le svq1+pcm_alaw flashsv+pcm_mulaw libx264+g722",
    "webm": "libvpx+libvorbis libvpx-vp9+libopus",
    "avi": "mpeg4+libmp3lame libx264+libmp3lame mjpeg+pcm_s16le huffyuv+pcm_u8 msmpeg4+libmp3lame msmpeg4v2+mp2 "
    "cinepak+pcm_s16le rawvideo+pcm_s16le libxvid+ac3 ffv1+adpcm_ms wmv1+adpcm_ima_wav zmbv+pcm_s16le msvideo1+pcm_mulaw",
    "flv": "flv+libmp3lame libx264+aac flv+pcm_s16le flashsv+adpcm_swf",
    "wmv": "wmv2+wmav2 wmv1+wmav1 msmpeg4+wmav2",
    "mpg": "mpeg1video+mp2 mpeg2video+mp2 mpeg2video+ac3 libx264+mp2",
    "vob": "mpeg2video+ac3 mpeg2video+pcm_dvd",
    "ts": "libx264+aac mpeg2video+mp2 libx265+ac3 libx264+libopus mpeg4+libmp3lame mpeg2video+s302m libx264+eac3",
    "mxf": "mpeg2video+pcm_s16le dnxhd+pcm_s24le libx264+pcm_s16le",
    "ogg": "libtheora+libvorbis libtheora+flac libtheora+libopus",
    "nut": "mpeg4+libmp3lame rawvideo+pcm_s16le ffv1+pcm_s24le",
    "3gp": "libx264+aac h263+aac",
    "rm": "rv10+ac3",
    "swf": "flv+libmp3lame",
    "dv": "dvvideo+pcm_s16le",
    "wtv": "mpeg2video+mp2",
    "f4v": "libx264+aac",
    "ismv": "libx264+aac",
    "gxf": "mpeg2video+pcm_s16le",
}
# Options of codecs that accept one picture size, rate or sample rate only.
OPTIONS: dict[str, str] = {
    "ac3": "-ar 48000",
    "adpcm_ima_qt": "-ar 44100",
    "adpcm_ima_wav": "-ar 44100",
    "adpcm_ms": "-ar 44100",
    "adpcm_swf": "-ar 44100",
    "alac": "-ar 44100",
    "cinepak": "-s 160x120",
    "dca": "-strict -2",
    "dnxhd": "-s 1280x720 -r 25 -b:v 60M -pix_fmt yuv422p",
    "dvvideo": "-s 720x576 -r 25 -ar 48000 -ac 2",
    "g722": "-ar 16000",
    "h263": "-s 352x288",
    "libgsm_ms": "-ar 8000",
    "libmp3lame": "-ar 44100",
    "libopus": "-ar 48000",
    "libvpx-vp9": "-deadline realtime",
    "libx264": "-preset ultrafast",
    "libx265": "-preset ultrafast -x265-params log-level=none",
    "mp2": "-ar 44100",
    "pcm_dvd": "-ar 48000 -ac 2",
    "pcm_s24le": "-ar 48000",
    "rv10": "-s 352x288",
    "s302m": "-strict -2 -ar 48000 -ac 2",
    "snow": "-strict -2",
    "svq1": "-s 160x120",
    "truehd": "-strict -2 -ar 48000",
    "vc2": "-strict -1",
    "wmav1": "-ar 44100",
    "wmav2": "-ar 44100",
}
CONTAINER_OPTIONS: dict[str, str] = {
    "flv": "-ar 44100",
    "gxf": "-s 720x576 -r 25 -ar 48000 -ac 1",
    "mxf": "-ar 48000",
    "vob": "-ar 48000",
}
ELEMENTARY = (
    "h264:libx264 h264:libx264,-bf,3 hevc:libx265 m4v:mpeg4 m2v:mpeg2video m1v:mpeg1video mjpeg:mjpeg h261:h261,-s,352x288 "
    "h263:h263,-s,352x288 obu:libaom-av1,-cpu-used,8,-s,160x120 ivf:libvpx y4m:wrapped_avframe gif:gif apng:apng "
    "drc:vc2,-strict,-1"
)
SOUND = (
    "aac:aac mp2:mp2 mp3:libmp3lame ac3:ac3 eac3:eac3 dts:dca,-strict,-2 thd:truehd,-strict,-2 mlp:mlp,-strict,-2 flac:flac "
    "ogg:libvorbis opus:libopus oga:flac spx:libspeex wav:pcm_s16le au:pcm_s16be aiff:pcm_s16be caf:pcm_s16le w64:pcm_s16le "
    "voc:pcm_u8 tta:tta wv:wavpack g722:g722,-ar,16000 wma:wmav2 m4a:aac m4a:alac sbc:sbc,-ar,16000 gsm:libgsm,-ar,8000 "
    "adx:adpcm_adx,-ar,44100 mka:libopus latm:aac loas:aac sox:pcm_s32le rso:pcm_u8 ra:real_144,-ar,8000 "
    "mp4:libopus webm:libvorbis aifc:pcm_s24be"
)
PLANAR_FORMATS = "pcm_s8_planar pcm_s16le_planar pcm_s16be_planar pcm_s24le_planar pcm_s32le_planar"
WAV_FORMATS = (
    "pcm_u8 pcm_s16le pcm_s24le pcm_s32le pcm_f32le pcm_f64le pcm_alaw pcm_mulaw adpcm_ima_wav adpcm_ms g722 libgsm_ms "
    "libmp3lame adpcm_yamaha"
)
SAMPLE_RATES_HZ = (
    1000, 4000, 6000, 7350, 8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 37_800, 44_056, 44_100, 48_000, 88_200,
    96_000, 176_400, 192_000, 384_000,
)  # fmt: skip
LAYOUTS = (
    "mono stereo 2.1 3.0 3.0(back) 4.0 quad quad(side) 3.1 5.0 5.0(side) 4.1 5.1 5.1(side) 6.0 6.0(front) hexagonal 6.1 "
    "6.1(front) 7.0 7.0(front) 7.1 7.1(wide) 7.1(wide-side) octagonal hexadecagonal 22.2"
)
COUNTS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 17, 24, 32, 48, 63, 64)
PIXEL_FORMATS = (
    "yuv420p yuvj420p yuv422p yuv444p yuv410p yuv411p yuv440p yuva420p yuv420p10le yuv422p12le yuv444p16le gray gray10le "
    "gray16le rgb24 bgr0 bgra gbrp gbrp10le ya8 pal8 monob nv12 yuyv422 uyvy422 rgb555le"
)
FRAME_RATES = "1 2 5 10 12.5 15 24000/1001 24 25 30000/1001 30 48 50 60000/1001 60 100 120 240"
TIME_SCALES = (1000, 600, 12_800, 90_000, 1_000_000)
ASPECTS = ("2/1", "1/2", "4/3", "16/11", "12/11", "8/9", "10/11", "59/54", "64/45", "1/100", "100/1")
# Display matrices of a video: x' = a x + c y, y' = b x + d y.
ORIENTATIONS: dict[str, tuple[float, float, float, float]] = {
    "rotated_90": (0, 1, -1, 0), "rotated_180": (-1, 0, 0, -1), "rotated_270": (0, -1, 1, 0),
    "rotated_45": (0.7, 0.7, -0.7, 0.7), "mirrored": (-1, 0, 0, 1), "upside_down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0), "no_matrix": (0, 0, 0, 0),
}  # fmt: skip
SIZES = "1x1 2x2 16x16 17x33 64x48 161x121 320x32 32x320 640x480 720x576 1280x720 1920x1080 3840x2160"


Change = Callable[[bytes, np.random.Generator], bytes]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one file is made: FFmpeg's options after the input, or the files that are joined, and a change of the bytes.

    `inputs` are options before the clip, or before the first of `parts` if there are options as well. `has_gaps` says that the
    file does not last as long as its data.
    """

    name: str
    group: str
    options: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()  # names of other recipes
    change: Change | None = None
    has_gaps: bool = False

    @property
    def is_damaged(self) -> bool:
        """Whether data is missing or wrong."""
        return self.group == "damage"

    @property
    def is_continuous(self) -> bool:
        """Whether the file lasts as long as its frames, or its sound, in a row."""
        return not (self.is_damaged or self.has_gaps)


def recipes() -> list[Recipe]:
    """Return all files of the corpus. Their names are unique."""
    groups = (
        _containers(), _names(), _elementary(), _sound(), _headers(), _channels(), _pixels(), _frame_rates(), _geometry(),
        _time_stamps(), _tracks(), _damage(),
    )  # fmt: skip
    return list(itertools.chain.from_iterable(groups))


def make(recipe: Recipe, folder: Path) -> Path | None:
    """Write one file, and the file that it derives from; return its path, or None if FFmpeg cannot write it."""
    path = folder / recipe.name
    if path.exists():
        return path
    clip = folder / (recipe.parts[0] if recipe.parts else "clip.mkv")
    if recipe.parts and not recipe.options:
        made = [make(other, folder) for name in recipe.parts for other in recipes() if other.name == name]
        data = b"".join(part.read_bytes() for part in made if part is not None)
        if recipe.change is not None:
            data = recipe.change(data, np.random.default_rng([SEED, zlib.crc32(recipe.name.encode())]))
        path.write_bytes(data)
        return path
    if not clip.exists():
        write_talking_face(clip, SECONDS, video_codec="ffv1", audio_codec="pcm_s16le")
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *recipe.inputs, "-i", str(clip), *recipe.options, f"file:{path}"]
    done = subprocess.run(command, capture_output=True, timeout=ENCODE_TIMEOUT_S, check=False)
    if done.returncode or not path.exists():
        path.unlink(missing_ok=True)
        return None
    return path


def is_available() -> bool:
    """Return whether FFmpeg's programs are installed."""
    return all(shutil.which(program) for program in ("ffmpeg", "ffprobe"))


def _codec_options(*codecs: str) -> list[str]:
    return [option for codec in codecs for option in OPTIONS.get(codec, "").split()]


def _containers() -> Iterator[Recipe]:
    for suffix, pairs in CONTAINERS.items():
        for pair in pairs.split():
            video, audio = pair.split("+")
            options = ("-c:v", video, "-c:a", audio, *_codec_options(video, audio), *CONTAINER_OPTIONS.get(suffix, "").split())
            yield Recipe(f"{video}_{audio}.{suffix}", "containers", options)
    fragments = ("-c:v", "libx264", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov", "-g", "12")
    yield Recipe("fragments.mp4", "containers", fragments)
    yield Recipe("faststart.mp4", "containers", ("-c:v", "libx264", "-c:a", "aac", "-movflags", "faststart"))
    yield Recipe("live.mkv", "containers", ("-c:v", "libx264", "-c:a", "aac", "-live", "1", "-f", "matroska"))


def _names() -> Iterator[Recipe]:
    """Yield files whose name states another format than their content, or none."""
    pairs = (
        "libx264_aac.mkv>mp4 libx264_aac.mp4>mkv mpeg4_libmp3lame.avi>ts libx264_aac.ts>wav libx264_aac.flv>mpg "
        "mpeg2video_mp2.mpg>mp4 wmv2_wmav2.wmv>avi libtheora_libvorbis.ogg>mp3 video_0.h264>mp4 video_2.hevc>h264 "
        "sound_13.wav>mp3 sound_2.mp3>wav sound_8.flac>ogg sound_10.opus>h264 sound_0.aac>mp4 image.jpg>png image.png>jpg "
        "image.png>mp4 image.webp>wav libx264_aac.mkv>txt libx264_aac.mp4>jpg sound_13.wav>yuv sound_8.flac>m3u8"
    )
    for pair in pairs.split():
        base, suffix = pair.split(">")
        yield Recipe(f"{base.replace('.', '_')}.{suffix}", "names", parts=(base,))
    for base in ("libx264_aac.mkv", "sound_13.wav", "image.jpg"):
        yield Recipe(base.replace(".", "_"), "names", parts=(base,))


def _elementary() -> Iterator[Recipe]:
    for index, entry in enumerate(ELEMENTARY.split()):
        suffix, _, codec = entry.partition(":")
        name, *options = codec.split(",")
        yield Recipe(f"video_{index}.{suffix}", "video only", ("-an", "-c:v", name, *options, *_codec_options(name)))
    for suffix in ("jpg", "png", "bmp", "webp", "tiff", "pgm"):
        yield Recipe(f"image.{suffix}", "video only", ("-an", "-frames:v", "1"))


def _sound() -> Iterator[Recipe]:
    for index, entry in enumerate(SOUND.split()):
        suffix, _, codec = entry.partition(":")
        name, *options = codec.split(",")
        yield Recipe(f"sound_{index}.{suffix}", "sound only", ("-vn", "-c:a", name, *options, *_codec_options(name)))
    for codec in WAV_FORMATS.split():
        yield Recipe(f"{codec}.wav", "sample formats", ("-vn", "-c:a", codec, *_codec_options(codec)))
    for rate_hz in SAMPLE_RATES_HZ:
        yield Recipe(f"{rate_hz}_hz.wav", "sample formats", ("-vn", "-ar", str(rate_hz), "-c:a", "pcm_s16le"))
    for codec in PLANAR_FORMATS.split():
        yield Recipe(f"{codec}.nut", "sample formats", ("-vn", "-ac", "2", "-c:a", codec))
    for codec in ("s8", "s16be", "s24be", "s32be", "f32be", "f64be"):
        yield Recipe(f"{codec}.aiff", "sample formats", ("-vn", "-c:a", f"pcm_{codec}"))


def _headers() -> Iterator[Recipe]:
    """Yield sound whose header states a wrong length, as a recorder that was switched off or writes to a pipe leaves it."""
    for length in (0, 0x7FFF_FFFF, 0xFFFF_FFFF):
        yield Recipe(f"data_{length:08x}.wav", "headers", parts=("sound_13.wav",), change=_length(b"data", length))
        yield Recipe(f"riff_{length:08x}.wav", "headers", parts=("sound_13.wav",), change=_length(b"RIFF", length))
    yield Recipe(
        "length_ffffffff.au", "headers", parts=("sound_14.au",), change=lambda data, _: data[:8] + b"\xff" * 4 + data[12:]
    )


def _length(chunk: bytes, length: int) -> Change:
    """Return a change of the length of a RIFF chunk."""

    def change(data: bytes, _: np.random.Generator) -> bytes:
        position = data.index(chunk) + len(chunk)
        return data[:position] + length.to_bytes(4, "little") + data[position + 4 :]

    return change


def _channels() -> Iterator[Recipe]:
    for count in COUNTS:
        yield Recipe(f"{count}_channels.wav", "channels", parts=("16000_hz.wav",), change=_spread(count))
    for layout in LAYOUTS.split():
        count = _channel_count(layout)
        mix = "|".join(f"c{index}=c0" for index in range(count))
        name = layout.translate(str.maketrans("()", "__"))
        yield Recipe(f"layout_{name}.wav", "channels", ("-vn", "-af", f"pan={layout}|{mix}", "-c:a", "pcm_s16le"))
        if layout in ("5.1", "7.1", "6.1", "quad", "5.0"):
            for suffix, codec in (("flac", "flac"), ("opus", "libopus"), ("m4a", "aac"), ("ac3", "ac3"), ("ogg", "libvorbis")):
                options = ("-vn", "-af", f"pan={layout}|{mix}", "-c:a", codec, *_codec_options(codec))
                yield Recipe(f"layout_{name}.{suffix}", "channels", options)
    for name, pan in (("inverted", "stereo|c0=c0|c1=-1*c0"), ("dead", "stereo|c0=c0|c1=0*c0")):
        yield Recipe(f"{name}.mp4", "channels", ("-c:v", "mpeg4", "-af", f"pan={pan}", "-c:a", "aac"))
        for suffix, codec in (
            ("mp3", "libmp3lame"),
            ("opus", "libopus"),
            ("ogg", "libvorbis"),
            ("ac3", "ac3"),
            ("wma", "wmav2"),
        ):
            options = ("-vn", "-af", f"pan={pan}", "-c:a", codec, *_codec_options(codec))
            yield Recipe(f"{name}.{suffix}", "channels", options)


def _spread(count: int) -> Change:
    """Return a change that copies a mono WAV file of 16 bits to `count` channels without positions."""

    def change(data: bytes, _: np.random.Generator) -> bytes:
        with wave.open(io.BytesIO(data)) as source:
            samples = np.frombuffer(source.readframes(source.getnframes()), np.int16)
            rate_hz = source.getframerate()
        target = io.BytesIO()
        with wave.open(target, "wb") as file:
            file.setnchannels(count)
            file.setsampwidth(2)
            file.setframerate(rate_hz)
            file.writeframes(np.repeat(samples, count).tobytes())
        return target.getvalue()

    return change


def _channel_count(layout: str) -> int:
    named = {"mono": 1, "stereo": 2, "quad": 4, "quad(side)": 4, "hexagonal": 6, "octagonal": 8, "hexadecagonal": 16}
    return named.get(layout) or sum(int(digit) for digit in layout.split("(", maxsplit=1)[0].split("."))


def _pixels() -> Iterator[Recipe]:
    for pixel_format in PIXEL_FORMATS.split():
        for suffix, codec in (("nut", "rawvideo"), ("mkv", "ffv1")):
            options = ("-pix_fmt", pixel_format, "-c:v", codec, "-c:a", "pcm_s16le")
            yield Recipe(f"{pixel_format}.{suffix}", "pixel formats", options)
    for pixel_format in ("gray", "pal8", "bgr24", "rgb555le"):
        yield Recipe(
            f"{pixel_format}.avi", "pixel formats", ("-pix_fmt", pixel_format, "-c:v", "rawvideo", "-c:a", "pcm_s16le")
        )


def _frame_rates() -> Iterator[Recipe]:
    for index, rate in enumerate(FRAME_RATES.split()):
        yield Recipe(f"rate_{index}.mp4", "frame rates", ("-r", rate, "-c:v", "mpeg4", "-c:a", "aac"))
        yield Recipe(
            f"rate_{index}.mkv", "frame rates", ("-r", rate, "-c:v", "libx264", *_codec_options("libx264"), "-c:a", "aac")
        )
    for scale in TIME_SCALES:
        options = ("-video_track_timescale", str(scale), "-c:v", "libx264", *_codec_options("libx264"), "-c:a", "aac")
        yield Recipe(f"time_base_{scale}.mp4", "frame rates", options)
    uneven = ("-vf", "select='not(mod(n,3))+gt(mod(n,7),4)'", "-vsync", "vfr", "-c:v", "libx264", "-c:a", "aac")
    yield Recipe("uneven.mp4", "frame rates", uneven)
    yield Recipe("uneven.mkv", "frame rates", uneven)
    for suffix in ("mp4", "mkv", "avi", "ts", "flv", "mov"):
        options = ("-c:v", "libx264", "-bf", "3", "-b_strategy", "0", "-c:a", "libmp3lame", "-ar", "44100")
        yield Recipe(f"b_frames.{suffix}", "frame rates", options)


def _geometry() -> Iterator[Recipe]:
    for index, aspect in enumerate(ASPECTS):
        for suffix in ("mp4", "mkv"):
            yield Recipe(f"aspect_{index}.{suffix}", "geometry", ("-vf", f"setsar={aspect}", "-c:v", "mpeg4", "-c:a", "aac"))
    for size in SIZES.split():
        yield Recipe(f"size_{size}.mkv", "geometry", ("-s", size, "-c:v", "ffv1", "-r", "5", "-c:a", "aac"))
    for name, matrix in ORIENTATIONS.items():
        yield Recipe(f"{name}.mp4", "geometry", parts=("mpeg4_aac.mp4",), change=_oriented(matrix))
    yield Recipe("interlaced.ts", "geometry", ("-flags", "+ilme+ildct", "-c:v", "mpeg2video", "-c:a", "mp2"))


def _oriented(matrix: tuple[float, ...]) -> Change:
    """Return a change of the display matrix of the first track of an MP4 file."""

    def change(data: bytes, _: np.random.Generator) -> bytes:
        a, b, c, d = (round(65_536 * value) for value in matrix)
        position = data.index(b"tkhd") + 44
        return data[:position] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[position + 36 :]

    return change


def _time_stamps() -> Iterator[Recipe]:
    h264 = ("-c:v", "libx264", *_codec_options("libx264"))
    for offset in ("-3", "0.4", "3600", "26000", "95440", "95441.5", "95442.7"):
        for suffix, codecs in (("ts", (*h264, "-c:a", "aac")), ("mpg", ("-c:v", "mpeg2video", "-c:a", "mp2", "-ar", "44100"))):
            options = (*codecs, "-output_ts_offset", offset)
            yield Recipe(f"offset_{offset.replace('-', 'minus_')}.{suffix}", "time stamps", options)
    for suffix in ("mp4", "mkv", "avi", "ts"):
        late = (*h264, "-c:a", "libmp3lame", "-ar", "44100", "-af", "adelay=700", "-t", "2")
        yield Recipe(f"late_sound.{suffix}", "time stamps", late)
        for kind, delay in (("sound", ("-af", "asetpts=PTS+0.7/TB")), ("video", ("-vf", "setpts=PTS+0.7/TB"))):
            options = (*h264, "-c:a", "libmp3lame", "-ar", "44100", *delay)
            yield Recipe(f"delayed_{kind}.{suffix}", "time stamps", options, has_gaps=True)
        cut = (*h264, "-c:a", "libmp3lame", "-ar", "44100", "-ss", "0.7")
        yield Recipe(f"cut.{suffix}", "time stamps", cut)
        yield Recipe(f"short_sound.{suffix}", "time stamps", (*h264, "-c:a", "libmp3lame", "-af", "atrim=end=0.6"))
        yield Recipe(f"short_video.{suffix}", "time stamps", (*h264, "-c:a", "libmp3lame", "-vf", "trim=end=0.6"))
    for base in ("libx264_aac.mp4", "b_frames.mp4", "b_frames.mov", "libx264_aac.mkv"):  # cut within an edit list
        copied, stem = ("-c", "copy"), base.replace(".", "_")
        for suffix in ("mp4", "mkv"):
            yield Recipe(
                f"copied_{stem}.{suffix}", "time stamps", copied, inputs=("-ss", "0.7"), parts=(base,), has_gaps=True
            )  # fmt: skip
    bases = (
        "libx264_aac.ts mpeg2video_mp2.mpg libx264_aac.mkv libx264_aac.flv mpeg2video_ac3.vob fragments.mp4 "
        "sound_0.aac sound_2.mp3 sound_3.ac3 sound_8.flac sound_9.ogg sound_10.opus libtheora_libvorbis.ogg "
        "video_0.h264 video_2.hevc video_6.mjpeg"
    )
    for base in bases.split():
        stem, suffix = base.split(".")
        yield Recipe(f"joined_{stem}.{suffix}", "time stamps", parts=(base,) * 3)
    yield Recipe(
        "joined_offsets.ts", "time stamps", parts=("libx264_aac.ts", "offset_3600.ts", "offset_0.4.ts", "offset_95440.ts")
    )
    yield Recipe("joined_offsets.mpg", "time stamps", parts=("offset_26000.mpg", "mpeg2video_mp2.mpg", "offset_95440.mpg"))

    small = ("-s", "320x240", "-r", "30", *h264, "-c:a", "aac", "-ac", "2")
    yield Recipe("small.ts", "time stamps", small)
    yield Recipe("joined_sizes.ts", "time stamps", parts=("libx264_aac.ts", "small.ts", "libx264_aac.ts"), has_gaps=True)
    yield Recipe("joined_codecs.ts", "time stamps", parts=("libx264_aac.ts", "mpeg2video_mp2.ts"), has_gaps=True)
    yield Recipe("joined_codecs.mpg", "time stamps", parts=("mpeg2video_mp2.mpg", "mpeg1video_mp2.mpg"), has_gaps=True)


def _tracks() -> Iterator[Recipe]:
    h264, aac = ("-c:v", "libx264", *_codec_options("libx264")), ("-c:a", "aac")
    for suffix in ("mkv", "mp4", "ts", "mov"):
        second = ("-map", "0:v", "-map", "0:a", "-map", "0:a", *h264, *aac, "-filter:a:0", "volume=0")
        yield Recipe(f"two_sounds.{suffix}", "tracks", (*second, "-disposition:a:0", "0", "-disposition:a:1", "default"))
        yield Recipe(f"two_videos.{suffix}", "tracks", ("-map", "0:v", "-map", "0:v", "-map", "0:a", *h264, *aac))
        yield Recipe(f"video_only.{suffix}", "tracks", ("-an", *h264))
        yield Recipe(f"sound_only.{suffix}", "tracks", ("-vn", *aac))
    cover = ("-f", "lavfi", "-i", "color=red:s=64x64:r=0.1")
    for suffix, codec in (("mp3", "libmp3lame"), ("m4a", "aac"), ("flac", "flac")):
        options = ("-map", "0:v", "-map", "1:a", "-t", "2", "-c:v", "png", "-c:a", codec)
        yield Recipe(f"cover.{suffix}", "tracks", (*options, "-disposition:v", "attached_pic"), inputs=cover)
    for suffix in ("mkv", "mp4", "ts", "avi", "mov"):
        yield Recipe(f"no_frame.{suffix}", "tracks", (*h264, *aac, "-vf", "trim=end=0"))
        yield Recipe(f"no_sample.{suffix}", "tracks", (*h264, *aac, "-af", "atrim=end=0"))
    text = ("-f", "srt", "-i", "data:text/plain,1%0A00:00:00,100 --> 00:00:01,900%0Aa%20subtitle%0A%0A")
    for suffix, codec in (("mkv", "srt"), ("mp4", "mov_text"), ("webm", "webvtt")):
        codecs: tuple[str, ...] = ("-c:v", "libvpx", "-c:a", "libvorbis") if suffix == "webm" else (*h264, *aac)
        maps = ("-map", "0:s", "-map", "1:v", "-map", "1:a")
        yield Recipe(f"subtitles.{suffix}", "tracks", (*maps, *codecs, "-c:s", codec), inputs=text)
    key = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb")
    yield Recipe("encrypted.mp4", "damage", (*h264, *aac, *key, "-encryption_kid", "a7e61c373e219033c21091fa607bf3b8"))
    metadata = ("-metadata", "title=\u00e9\u4e2d\U0001f600", "-metadata", "comment=" + "x" * 5000)
    yield Recipe("metadata.mkv", "tracks", (*h264, *aac, *metadata))


def _damage() -> Iterator[Recipe]:
    bases = (
        "libx264_aac.mkv libx264_aac.mp4 faststart.mp4 libx264_aac.ts mpeg2video_mp2.mpg mpeg4_libmp3lame.avi "
        "libx264_aac.flv wmv2_wmav2.wmv libtheora_libvorbis.ogg libvpx_libvorbis.webm sound_13.wav "
        "sound_2.mp3 sound_8.flac sound_0.aac fragments.mp4 video_0.h264 dvvideo_pcm_s16le.dv image.jpg"
    )
    for base in bases.split():
        for name, change in DAMAGE.items():
            yield Recipe(f"{name}_{base}", "damage", parts=(base,), change=change)
    yield Recipe("no_index.avi", "damage", parts=("mpeg4_libmp3lame.avi",), change=lambda data, _: data[: data.index(b"idx1")])


def _cut(share: float) -> Change:
    return lambda data, _: data[: int(share * len(data))]


def _flip(share: float, start: float = 0.0) -> Change:
    """Return a change that inverts random bytes after the first `start` of the data."""

    def change(data: bytes, rng: np.random.Generator) -> bytes:
        changed = np.frombuffer(data, np.uint8).copy()
        first = int(start * changed.size)
        positions = rng.integers(first, changed.size, max(1, int(share * changed.size)))
        changed[positions] ^= rng.integers(1, 256, positions.size, dtype=np.uint8)
        return changed.tobytes()

    return change


DAMAGE: dict[str, Change] = {
    "cut_01": _cut(0.01),
    "cut_30": _cut(0.3),
    "cut_60": _cut(0.6),
    "cut_95": _cut(0.95),
    "cut_1_byte": lambda data, _: data[:-1],
    "repeat": lambda data, _: data[: len(data) // 2] + data[len(data) // 3 :],
    "flip_few": _flip(0.0005, 0.1),
    "flip_many": _flip(0.01, 0.1),
    "flip_header": _flip(0.001),
    "zeros": lambda data, _: data[: len(data) // 3] + bytes(len(data) // 6) + data[len(data) // 2 :],
    "hole": lambda data, _: data[: len(data) // 3] + data[len(data) // 2 :],
    "trailing": lambda data, rng: data + rng.bytes(20_000),
    "leading": lambda data, rng: rng.bytes(1000) + data,
    "no_header": lambda data, _: data[200:],
}


def main(argv: list[str]) -> int:
    """Write the corpus into a folder; return 0, or 2 without FFmpeg or a folder."""
    if len(argv) != 1 or not is_available():
        print("usage: python -m tests.support.media.corpus DIR; needs the programs ffmpeg and ffprobe", file=sys.stderr)
        return 2
    folder = Path(argv[0])
    folder.mkdir(parents=True, exist_ok=True)
    made = [make(recipe, folder) for recipe in recipes()]
    print(f"{sum(path is not None for path in made)} files in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
