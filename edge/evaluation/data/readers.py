"""Readers of the published data layouts: FER2013, FER+, class folders of images, RAVDESS, TESS, and sound files.

All labels come from the files and their names. A missing, partial or damaged file raises a `DataError` that names the file and,
in a table, the row.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import av.error
import cv2
import numpy as np
from numpy.typing import NDArray

from moodring.capture.sound import Resampler
from moodring.errors import DataError
from moodring.labels import FACE_CLASSES, FERPLUS_COLUMNS, FOLDER_NAMES, RAVDESS
from moodring.types import F32, SAMPLE_RATE_HZ, U8

I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

FER_SIDE = 48  # pixels
FER_PIXELS = FER_SIDE * FER_SIDE
FER_USAGES = ("Training", "PublicTest", "PrivateTest")
RAVDESS_ACTORS = 24
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".pgm"})
# Files that count as sound where no manifest names them; of copies of one recording, the first in this order is read.
SOUND_SUFFIXES = (
    ".flac", ".wav", ".aif", ".aiff", ".opus", ".ogg", ".oga", ".m4a", ".aac", ".mp3", ".wma", ".amr", ".webm", ".mka",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fer2013:
    """FER2013 in file order: `faces` uint8 [N, 48, 48], `labels` int64 [N], `usage` [N] of FER_USAGES."""

    faces: U8
    labels: I64
    usage: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class FerPlus:
    """FER+ in the row order of FER2013: `votes` uint8 [N, 10]; `has_image` bool [N] is False for a removed image."""

    votes: U8
    has_image: Bool


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """The image paths in class folders, their labels int64 [N], and the names of skipped folders, which are no known class."""

    paths: tuple[Path, ...]
    labels: I64
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RavdessClip:
    """One RAVDESS recording, described by its file name: `label` is an index into LABELS, `actor` 1..24."""

    path: Path
    kind: Literal["sound", "video"]
    label: int
    actor: int

    @property
    def recording_key(self) -> str:
        """The file name without its modality field: the same for the sound and the video of one recording."""
        return self.path.stem.split("-", 1)[1]


@dataclass(frozen=True, slots=True)
class TessClip:
    """One TESS recording, described by its file name: `label` is an index into LABELS, `speaker` OAF or YAF."""

    path: Path
    label: int
    speaker: str


def _read_rows(path: Path, header: tuple[str, ...]) -> list[list[str]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with path.open(newline="", encoding="ascii") as handle:
            reader = csv.reader(handle)
            first = tuple(cell.strip() for cell in next(reader, ()))
            if first != header:
                raise DataError(f"{path}: the first line must be {','.join(header)}, found {','.join(first)[:80]!r}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as comma-separated text ({error})") from error
    if not rows:
        raise DataError(f"{path}: has a header but no rows; it may be a partial download")
    return rows


def _parse_integer(path: Path, row: int, cell: str, name: str, upper_bound: int) -> int:
    if not cell.isdecimal() or int(cell) >= upper_bound:
        raise DataError(f"{path}: row {row}: {name} must be a whole number in 0..{upper_bound - 1}, found {cell[:20]!r}")
    return int(cell)


def _parse_pixels(path: Path, row: int, text: str) -> NDArray[np.int64]:
    try:
        with warnings.catch_warnings():  # older NumPy only warns if the text is not a number
            warnings.simplefilter("error")
            values = np.fromstring(text, dtype=np.int64, sep=" ")  # 3x faster than int() for each word
    except (ValueError, DeprecationWarning) as error:
        raise DataError(f"{path}: row {row}: pixels must be whole numbers separated by spaces") from error
    if values.size != FER_PIXELS:
        raise DataError(f"{path}: row {row}: expected {FER_PIXELS} pixels (48 x 48), found {values.size}")
    if values.min() < 0 or values.max() > 255:
        raise DataError(f"{path}: row {row}: pixels must lie in 0..255, found {values.min()}..{values.max()}")
    return values


def read_fer2013(path: Path) -> Fer2013:
    """Read the published fer2013.csv (emotion,pixels,Usage). Raises DataError; its row numbers start at 1 after the header."""
    rows = _read_rows(path, ("emotion", "pixels", "Usage"))
    faces = np.empty((len(rows), FER_SIDE, FER_SIDE), np.uint8)
    labels = np.empty(len(rows), np.int64)
    usage: list[str] = []
    for index, cells in enumerate(rows):
        row = index + 1
        if len(cells) != 3:
            raise DataError(f"{path}: row {row}: expected 3 columns, found {len(cells)}; it may be a partial download")
        labels[index] = _parse_integer(path, row, cells[0], "emotion", FACE_CLASSES)
        faces[index] = _parse_pixels(path, row, cells[1]).reshape(FER_SIDE, FER_SIDE)
        if cells[2] not in FER_USAGES:
            raise DataError(f"{path}: row {row}: Usage must be one of {', '.join(FER_USAGES)}, found {cells[2][:20]!r}")
        usage.append(cells[2])
    return Fer2013(faces, labels, np.array(usage))


def read_ferplus(path: Path, expected_rows: int | None = None) -> FerPlus:
    """Read fer2013new.csv of FER+. Row i belongs to row i of fer2013.csv, which has `expected_rows` rows. Raises DataError."""
    rows = _read_rows(path, ("Usage", "Image name", *FERPLUS_COLUMNS))
    if expected_rows is not None and len(rows) != expected_rows:
        raise DataError(f"{path}: has {len(rows)} rows, but fer2013.csv has {expected_rows}; the files do not belong together")
    votes = np.empty((len(rows), len(FERPLUS_COLUMNS)), np.uint8)
    has_image = np.empty(len(rows), np.bool_)
    for index, cells in enumerate(rows):
        row = index + 1
        if len(cells) != 2 + len(FERPLUS_COLUMNS):
            raise DataError(f"{path}: row {row}: expected {2 + len(FERPLUS_COLUMNS)} columns, found {len(cells)}")
        has_image[index] = bool(cells[1].strip())
        for column, cell in enumerate(cells[2:]):
            votes[index, column] = _parse_integer(path, row, cell, FERPLUS_COLUMNS[column], 256)
    return FerPlus(votes, has_image)


def list_class_folders(folder: Path) -> LabelledImages:
    """List the images in folders named by class. Raises DataError if there are none.

    Folders of other names are skipped and listed in the result.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    paths: list[Path] = []
    labels: list[int] = []
    skipped: list[str] = []
    for child in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        label = FOLDER_NAMES.get(child.name.lower())
        if label is None:
            skipped.append(child.name)
            continue
        found = sorted(path for path in child.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise DataError(f"{folder}: holds no images in folders named {', '.join(sorted(FOLDER_NAMES))}")
    return LabelledImages(tuple(paths), np.array(labels, np.int64), tuple(skipped))


def read_grey(path: Path) -> U8:
    """Read one image as grey uint8 [H, W]. Raises DataError."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
    if image is None:
        raise DataError(f"{path}: cannot be decoded as an image; it may be truncated")
    return np.asarray(image, np.uint8)


def parse_ravdess_name(path: Path) -> RavdessClip | None:
    """Parse the name of a RAVDESS speech recording; None for other files (songs, manifests, video without sound).

    Raises DataError if the name has an emotion or an actor that RAVDESS does not have.
    """
    kind: Literal["sound", "video"]
    fields = path.stem.split("-")
    suffix = path.suffix.lower()
    if len(fields) != 7 or not all(len(field) == 2 and field.isdecimal() for field in fields) or fields[1] != "01":
        return None
    if fields[0] == "03" and suffix in SOUND_SUFFIXES:
        kind = "sound"
    elif fields[0] == "01" and suffix == ".mp4":
        kind = "video"
    else:
        return None
    label, actor = RAVDESS.get(fields[2]), int(fields[6])
    if label is None or not 1 <= actor <= RAVDESS_ACTORS:
        raise DataError(
            f"{path}: the file name gives emotion {fields[2]} and actor {fields[6]}; "
            f"RAVDESS has emotions 01 to {len(RAVDESS):02d} and actors 01 to {RAVDESS_ACTORS}"
        )
    return RavdessClip(path, kind, label, actor)


def list_ravdess(folder: Path, kind: Literal["sound", "video"] = "sound") -> tuple[RavdessClip, ...]:
    """List the RAVDESS recordings of a folder (Actor_NN/03-01-EE-II-SS-RR-AA.wav, or 01-01-*.mp4) in name order.

    Any suffix of SOUND_SUFFIXES counts as sound. A recording that is present as WAV and as FLAC counts once. Raises
    DataError if there are none, or for a wrong name.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    clips: dict[tuple[int, str], RavdessClip] = {}
    for path in _sound_first(folder.glob("Actor_*/*")):
        clip = parse_ravdess_name(path)
        if clip is None or clip.kind != kind:
            continue
        if path.parent.name != f"Actor_{clip.actor:02d}":
            raise DataError(f"{path}: the file name gives actor {clip.actor}, but the folder is {path.parent.name}")
        clips.setdefault((clip.actor, clip.recording_key), clip)
    if not clips:
        wanted = "03-01-EE-II-SS-RR-AA.wav, .flac or another sound file" if kind == "sound" else "01-01-EE-II-SS-RR-AA.mp4"
        raise DataError(f"{folder}: holds no RAVDESS recordings (Actor_NN/{wanted})")
    return tuple(clips[key] for key in sorted(clips))


def list_tess(folder: Path) -> tuple[TessClip, ...]:
    """List the TESS recordings (SPEAKER_word_emotion.wav, or another suffix of SOUND_SUFFIXES) below a folder, in name order.

    Raises DataError if there are none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found: dict[str, TessClip] = {}
    for path in _sound_first(folder.rglob("*")):
        fields = path.stem.split("_")
        if path.suffix.lower() in SOUND_SUFFIXES and len(fields) == 3 and fields[2].lower() in FOLDER_NAMES:
            found.setdefault(path.stem, TessClip(path, FOLDER_NAMES[fields[2].lower()], fields[0]))
    if not found:
        raise DataError(f"{folder}: holds no TESS recordings (SPEAKER_word_emotion.wav, .flac or another sound file)")
    return tuple(sorted(found.values(), key=lambda clip: clip.path))


def _sound_first(paths: Iterable[Path]) -> list[Path]:
    """Return the paths in the order of SOUND_SUFFIXES, then of their names; files that are no sound come last."""
    rank = {suffix: place for place, suffix in enumerate(SOUND_SUFFIXES)}
    return sorted(paths, key=lambda path: (rank.get(path.suffix.lower(), len(rank)), path))


def read_sound(path: Path, rate_hz: int = SAMPLE_RATE_HZ) -> F32:
    """Decode a sound file in any format of FFmpeg, or the sound of a video, to mono float32 [N] at `rate_hz`.

    A lossy codec can exceed [-1, 1]. Raises DataError.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    pieces: list[F32] = []
    try:
        # absolute: FFmpeg takes a name with a colon for an address
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            if not container.streams.audio:
                raise DataError(f"{path}: has no audio track")
            resampler = Resampler(rate_hz, clip=False)
            pieces += [resampler.push(frame) for frame in container.decode(audio=0)]
            pieces.append(resampler.flush())
    except (av.error.FFmpegError, OSError) as error:
        raise DataError(f"{path}: cannot be decoded as sound ({error}); it may be truncated") from error
    samples: F32 = np.concatenate(pieces)
    if samples.size == 0:
        raise DataError(f"{path}: holds no samples")
    return samples
