"""Does a folder hold the data sets whole? What is there is counted and read; what is wrong is named with its file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import av.error

from moodring.errors import DataError
from moodring.evaluation.data.catalogue import CATALOGUE
from moodring.evaluation.data.readers import (
    FER_USAGES,
    SOUND_SUFFIXES,
    RavdessClip,
    list_ravdess,
    read_fer2013,
    read_ferplus,
    read_sound,
)

Verdict = Literal["whole", "part", "absent", "broken"]
FER_COUNTS = {"Training": 28_709, "PublicTest": 3_589, "PrivateTest": 3_589}
CLIPS_PER_ACTOR = 60
ACTOR_COUNT = 24
MIN_DURATION_S = 1.0
CHECKSUM_FILE = "SHA256SUMS"
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one data set: `notes` are lines for people."""

    name: str
    verdict: Verdict
    notes: tuple[str, ...]


def verify(folder: Path) -> list[Finding]:
    """Look for every data set in a folder. Raises DataError where there is no such folder."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    fer = next(
        (candidate for candidate in (folder / "fer2013", folder) if (candidate / "fer2013.csv").is_file()), folder / "fer2013"
    )
    speech = folder / "ravdess" if (folder / "ravdess").is_dir() else folder
    video = folder / "ravdess_video" if (folder / "ravdess_video").is_dir() else folder
    return [
        _verify_fer2013(fer / "fer2013.csv"),
        _verify_ferplus(fer / "fer2013new.csv", fer / "fer2013.csv"),
        _verify_ravdess("RAVDESS speech", speech, "sound"),
        _verify_ravdess("RAVDESS video", video, "video"),
        _verify_action_units("RAVDESS action units", folder / "ravdess_au" / "manifest.csv"),
        _verify_noise(folder / "noise"),
        *_verify_checksums(folder),
    ]


def _verify_fer2013(path: Path) -> Finding:
    if not path.is_file():
        return _absent("FER2013", f"{path} is not there")
    try:
        counts = Counter(read_fer2013(path).usage.tolist())
    except DataError as error:
        return Finding("FER2013", "broken", (str(error),))
    notes = [", ".join(f"{counts[usage]} {usage}" for usage in FER_USAGES)]
    is_complete = all(counts[usage] == count for usage, count in FER_COUNTS.items())
    published = dict(md5 for data_set in CATALOGUE for md5 in data_set.md5)[path.name]
    if is_complete:
        same = _digest(path, "md5") == published
        notes.append("the published file, by its MD5" if same else "as many rows as published, but other bytes")
    return Finding("FER2013", "whole" if is_complete else "part", tuple(notes))


def _verify_ferplus(path: Path, fer2013_csv: Path) -> Finding:
    if not path.is_file():
        return _absent("FER+", f"{path} is not there; the face network then learns FER2013's labels alone")
    try:
        rows = sum(1 for _ in fer2013_csv.open(encoding="ascii")) - 1 if fer2013_csv.is_file() else None
        votes = read_ferplus(path, rows)
    except (DataError, UnicodeDecodeError) as error:
        return Finding("FER+", "broken", (str(error),))
    is_complete = len(votes.votes) == sum(FER_COUNTS.values())
    return Finding("FER+", "whole" if is_complete else "part", (f"{len(votes.votes)} rows",))


def _verify_ravdess(name: str, folder: Path, kind: Literal["sound", "video"]) -> Finding:
    try:
        clips = list_ravdess(folder, kind)
    except DataError as error:
        return _absent(name, str(error))
    actors = Counter(clip.actor for clip in clips)
    decode_errors = list(_decode_errors(clips))
    notes = [f"{len(clips)} recordings of {len(actors)} actors", *decode_errors]
    short = [
        f"actor {actor}: {count} of {CLIPS_PER_ACTOR}" for actor, count in sorted(actors.items()) if count < CLIPS_PER_ACTOR
    ]
    notes += short
    if decode_errors:
        return Finding(name, "broken", tuple(notes))
    return Finding(name, "whole" if len(actors) == ACTOR_COUNT and not short else "part", tuple(notes))


def _decode_errors(clips: Sequence[RavdessClip]) -> Iterator[str]:
    """Yield what is wrong with recordings: those that do not decode or are too short."""
    for clip in clips:
        try:
            seconds = read_sound(clip.path).size / 16_000
            if clip.kind == "video":
                _check_video_frame(clip.path)
        except DataError as error:
            yield str(error)
            continue
        if seconds < MIN_DURATION_S:
            yield f"{clip.path} lasts {seconds:.2f} s; it may be truncated"


def _check_video_frame(path: Path) -> None:
    try:
        with av.open(str(path)) as container:
            if not container.streams.video or next(container.decode(video=0), None) is None:
                raise DataError(f"{path}: holds no picture")
    except (av.error.FFmpegError, OSError) as error:
        raise DataError(f"{path}: its picture cannot be decoded ({error})") from error


def _verify_action_units(name: str, path: Path) -> Finding:
    if not path.is_file():
        return _absent(name, f"{path} is not there")
    rows = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if not rows or not rows[0].startswith("clip,") or ",AU" not in rows[0]:
        return Finding(name, "broken", (f"{path}: the first line must name clip and the units (AU01_r, ...)",))
    return Finding(name, "whole", (f"{len(rows) - 1} recordings",))


def _verify_noise(folder: Path) -> Finding:
    name = "ESC-10 and long noises"
    long = [path for path in folder.glob("*") if path.suffix.lower() in SOUND_SUFFIXES]
    short = [path for path in folder.glob("esc10/*/*") if path.suffix.lower() in SOUND_SUFFIXES]
    if not long and not short:
        return _absent(name, f"{folder} holds none; training goes on without them")
    return Finding(name, "whole" if long and short else "part", (f"{len(long)} to test in, {len(short)} to train with",))


def _verify_checksums(folder: Path) -> list[Finding]:
    """Check the files that a SHA256SUMS in the folder names, in the format of sha256sum."""
    listed = folder / CHECKSUM_FILE
    if not listed.is_file():
        return []
    wrong = []
    lines = [line.split(maxsplit=1) for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    for parts in lines:
        if len(parts) != 2:
            return [Finding(CHECKSUM_FILE, "broken", (f"{listed}: each line must hold a hash and a name",))]
        path = folder / parts[1].lstrip("*")
        if not path.is_file():
            wrong.append(f"{parts[1]} is not there")
        elif _digest(path, "sha256") != parts[0]:
            wrong.append(f"{parts[1]} is not the file that was listed")
    return [Finding(CHECKSUM_FILE, "broken" if wrong else "whole", tuple(wrong) or (f"{len(lines)} files as listed",))]


def _absent(name: str, why: str) -> Finding:
    return Finding(name, "absent", (why,))


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
