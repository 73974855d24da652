"""Readers of the published data layouts, from files and file names alone: FER2013, FER+, class folders, RAVDESS, sound.

Whatever is absent, partial or corrupt ends in one `DataError` that names the file, and the row where there is one.
"""

from __future__ import annotations

import csv
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import av.error
import cv2
import numpy as np
from numpy.typing import NDArray

from moodring.errors import DataError
from moodring.labels import FACE_CLASSES, FERPLUS_COLUMNS, FOLDER_NAMES, RAVDESS
from moodring.types import F32, U8

I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

FER_SIDE = 48  # pixels
FER_PIXELS = FER_SIDE * FER_SIDE
FER_USAGES = ("Training", "PublicTest", "PrivateTest")
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".pgm"})
SOUND_SUFFIXES = frozenset({".wav", ".flac"})


@dataclass(frozen=True, slots=True)
class Fer2013:
    """FER2013 in file order: `faces` uint8 [N, 48, 48], `labels` int64 [N], `usage` [N] of FER_USAGES."""

    faces: U8
    labels: I64
    usage: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class FerPlus:
    """FER+'s votes, row by row beside FER2013's: `votes` uint8 [N, 10], `named` bool [N]: False where it was removed."""

    votes: U8
    has_image: Bool


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Paths in class folders, their labels int64 [N], and the folders that are no class of ours."""

    paths: tuple[Path, ...]
    labels: I64
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RavdessClip:
    """One RAVDESS recording, as its name tells: `actor` 1..24 (odd are male), `label` an index into LABELS."""

    path: Path
    kind: Literal["sound", "video"]
    label: int
    intensity: int
    statement: int
    repetition: int
    actor: int

    @property
    def is_male(self) -> bool:
        return self.actor % 2 == 1

    @property
    def recording_key(self) -> str:
        """What the sound and the video of one recording share: the name without its modality."""
        return self.path.stem.split("-", 1)[1]


@dataclass(frozen=True, slots=True)
class TessClip:
    """One TESS recording, as its name tells: `label` an index into LABELS, `speaker` OAF or YAF."""

    path: Path
    label: int
    speaker: str


def _read_rows(path: Path, header: tuple[str, ...]) -> list[list[str]]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
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
        with warnings.catch_warnings():  # older NumPy only warns where text is no number
            warnings.simplefilter("error")
            values = np.fromstring(text, dtype=np.int64, sep=" ")  # three times as fast as int() of each word
    except (ValueError, DeprecationWarning) as error:
        raise DataError(f"{path}: row {row}: pixels hold something that is no whole number") from error
    if values.size != FER_PIXELS:
        raise DataError(f"{path}: row {row}: expected {FER_PIXELS} pixels (48 x 48), found {values.size}")
    if values.min() < 0 or values.max() > 255:
        raise DataError(f"{path}: row {row}: pixels must lie in 0..255, found {values.min()}..{values.max()}")
    return values


def read_fer2013(path: Path) -> Fer2013:
    """Read the published fer2013.csv (emotion,pixels,Usage). Rows are numbered from 1, the header left out."""
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
    """Read FER+'s fer2013new.csv; row i belongs to row i of fer2013.csv, which must have `expected_rows` of them."""
    rows = _read_rows(path, ("Usage", "Image name", *FERPLUS_COLUMNS))
    if expected_rows is not None and len(rows) != expected_rows:
        raise DataError(f"{path}: has {len(rows)} rows where fer2013.csv has {expected_rows}: they do not belong together")
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
    """List pictures in folders named for their class; a folder that is no class of ours is skipped and said."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
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
        raise DataError(f"{folder}: holds no pictures in folders named {', '.join(sorted(FOLDER_NAMES))}")
    return LabelledImages(tuple(paths), np.array(labels, np.int64), tuple(skipped))


def read_grey(path: Path) -> U8:
    """Read one picture as grey uint8 [H, W]."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
    if image is None:
        raise DataError(f"{path}: is no picture that can be decoded; it may be truncated")
    return np.asarray(image, np.uint8)


def parse_ravdess_name(path: Path) -> RavdessClip | None:
    """Return what a RAVDESS speech file name says; None for names that are not one (songs, manifests, video without sound)."""
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
    if label is None or not 1 <= actor <= 24:
        raise DataError(f"{path}: the name gives emotion {fields[2]} and actor {fields[6]}, which RAVDESS does not have")
    return RavdessClip(path, kind, label, int(fields[3]), int(fields[4]), int(fields[5]), actor)


def list_ravdess(folder: Path, kind: Literal["sound", "video"] = "sound") -> tuple[RavdessClip, ...]:
    """List RAVDESS recordings (Actor_NN/03-01-EE-II-SS-RR-AA.wav|flac, or 01-01-*.mp4) in name order.

    A recording present both as wav and flac counts once.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    clips: dict[tuple[int, str], RavdessClip] = {}
    for path in sorted(folder.glob("Actor_*/*")):
        clip = parse_ravdess_name(path)
        if clip is None or clip.kind != kind:
            continue
        if path.parent.name != f"Actor_{clip.actor:02d}":
            raise DataError(f"{path}: the name says actor {clip.actor}, the folder {path.parent.name}")
        clips.setdefault((clip.actor, clip.recording_key), clip)
    if not clips:
        wanted = "03-01-EE-II-SS-RR-AA.wav or .flac" if kind == "sound" else "01-01-EE-II-SS-RR-AA.mp4"
        raise DataError(f"{folder}: holds no RAVDESS recordings (Actor_NN/{wanted})")
    return tuple(clips[key] for key in sorted(clips))


def list_tess(folder: Path) -> tuple[TessClip, ...]:
    """List TESS recordings (SPEAKER_word_emotion.wav or .flac, in any folders below this one) in name order."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    found: dict[str, TessClip] = {}
    for path in sorted(folder.rglob("*")):
        fields = path.stem.split("_")
        if path.suffix.lower() in SOUND_SUFFIXES and len(fields) == 3 and fields[2].lower() in FOLDER_NAMES:
            found.setdefault(path.stem, TessClip(path, FOLDER_NAMES[fields[2].lower()], fields[0]))
    if not found:
        raise DataError(f"{folder}: holds no TESS recordings (SPEAKER_word_emotion.wav or .flac)")
    return tuple(found.values())


def read_sound(path: Path, rate_hz: int = 16_000) -> F32:
    """Decode a sound file to mono float32 [N] in [-1, 1] at `rate_hz`: the mean of its channels."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    pieces: list[F32] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise DataError(f"{path}: holds no sound")
            resampler = av.AudioResampler(format="fltp", rate=rate_hz)  # its own mono is 3 dB too loud
            for frame in container.decode(audio=0):
                pieces += [out.to_ndarray().mean(axis=0) for out in resampler.resample(frame)]
            pieces += [out.to_ndarray().mean(axis=0) for out in resampler.resample(None)]
    except (av.error.FFmpegError, OSError) as error:
        raise DataError(f"{path}: cannot be decoded as sound ({error}); it may be truncated") from error
    samples = np.concatenate(pieces).astype(np.float32) if pieces else np.empty(0, np.float32)
    if samples.size == 0:
        raise DataError(f"{path}: holds no samples")
    return samples
