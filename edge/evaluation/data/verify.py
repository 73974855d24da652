"""Verification of the data sets in a folder: counts and decodes what is there, and names each damaged or missing file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import av
import av.error

from moodring.errors import DataError
from moodring.evaluation.data.catalogue import CATALOGUE
from moodring.evaluation.data.finding import MIN_DURATION_S, Finding
from moodring.evaluation.data.readers import (
    FER_USAGES,
    RAVDESS_ACTORS,
    SOUND_SUFFIXES,
    RavdessClip,
    list_ravdess,
    read_fer2013,
    read_ferplus,
    read_sound,
)
from moodring.evaluation.data.verify_corpus import find_corpora, verify_corpus
from moodring.types import SAMPLE_RATE_HZ

FER_COUNTS = {"Training": 28_709, "PublicTest": 3_589, "PrivateTest": 3_589}
CLIPS_PER_ACTOR = 60
CHECKSUM_FILE = "SHA256SUMS"


def verify(folder: Path) -> list[Finding]:
    """Verify every data set in a folder, or the corpus of speech that the folder is. Raises DataError if it does not exist."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    corpora = find_corpora(folder)
    if corpora == [folder]:
        return [verify_corpus(folder), *_verify_checksums(folder)]
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
        *map(verify_corpus, corpora),
        *_verify_checksums(folder),
    ]


def _verify_fer2013(path: Path) -> Finding:
    if not path.is_file():
        return _absent("FER2013", f"{path} does not exist")
    try:
        counts = Counter(read_fer2013(path).usage.tolist())
    except DataError as error:
        return Finding("FER2013", "damaged", (str(error),))
    notes = [", ".join(f"{counts[usage]} {usage}" for usage in FER_USAGES)]
    is_complete = all(counts[usage] == count for usage, count in FER_COUNTS.items())
    published = dict(md5 for data_set in CATALOGUE for md5 in data_set.md5)[path.name]
    if is_complete:
        same = _digest(path, "md5") == published
        notes.append(
            "the MD5 matches the published file" if same else "the row counts match the published file, the MD5 does not"
        )
    return Finding("FER2013", "complete" if is_complete else "partial", tuple(notes))


def _verify_ferplus(path: Path, fer2013_csv: Path) -> Finding:
    if not path.is_file():
        return _absent("FER+", f"{path} does not exist; training uses the labels of FER2013 alone")
    try:
        rows = sum(1 for _ in fer2013_csv.open(encoding="ascii")) - 1 if fer2013_csv.is_file() else None
        votes = read_ferplus(path, rows)
    except (DataError, UnicodeDecodeError) as error:
        return Finding("FER+", "damaged", (str(error),))
    is_complete = len(votes.votes) == sum(FER_COUNTS.values())
    return Finding("FER+", "complete" if is_complete else "partial", (f"{len(votes.votes)} rows",))


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
        return Finding(name, "damaged", tuple(notes))
    return Finding(name, "complete" if len(actors) == RAVDESS_ACTORS and not short else "partial", tuple(notes))


def _decode_errors(clips: Sequence[RavdessClip]) -> Iterator[str]:
    """Yield one message for each recording that cannot be decoded or is too short."""
    for clip in clips:
        try:
            seconds = read_sound(clip.path).size / SAMPLE_RATE_HZ
            if clip.kind == "video":
                _check_video_frame(clip.path)
        except DataError as error:
            yield str(error)
            continue
        if seconds < MIN_DURATION_S:
            yield f"{clip.path}: is only {seconds:.2f} s long; it may be truncated"


def _check_video_frame(path: Path) -> None:
    try:
        # absolute: FFmpeg takes a name with a colon for an address
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            if not container.streams.video or next(container.decode(video=0), None) is None:
                raise DataError(f"{path}: has no video frame")
    except (av.error.FFmpegError, OSError) as error:
        raise DataError(f"{path}: its video cannot be decoded ({error}); it may be truncated") from error


def _verify_action_units(name: str, path: Path) -> Finding:
    if not path.is_file():
        return _absent(name, f"{path} does not exist")
    rows = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if not rows or not rows[0].startswith("clip,") or ",AU" not in rows[0]:
        return Finding(name, "damaged", (f"{path}: the first line must name the columns clip, AU01_r, ...",))
    return Finding(name, "complete", (f"{len(rows) - 1} recordings",))


def _verify_noise(folder: Path) -> Finding:
    name = "ESC-10 and long noises"
    long = [path for path in folder.glob("*") if path.suffix.lower() in SOUND_SUFFIXES]
    short = [path for path in folder.glob("esc10/*/*") if path.suffix.lower() in SOUND_SUFFIXES]
    if not long and not short:
        return _absent(name, f"{folder} has no sound files; training runs without noise")
    return Finding(name, "complete" if long and short else "partial", (f"{len(long)} for tests, {len(short)} for training",))


def _verify_checksums(folder: Path) -> list[Finding]:
    """Check the files that SHA256SUMS lists, in the format of the command sha256sum."""
    listed = folder / CHECKSUM_FILE
    if not listed.is_file():
        return []
    mismatches = []
    lines = [line.split(maxsplit=1) for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    for parts in lines:
        if len(parts) != 2:
            return [Finding(CHECKSUM_FILE, "damaged", (f"{listed}: each line must have a hash and a file name",))]
        path = folder / parts[1].lstrip("*")
        if not path.is_file():
            mismatches.append(f"{parts[1]} does not exist")
        elif _digest(path, "sha256") != parts[0]:
            mismatches.append(f"{parts[1]} does not match its checksum")
    return [
        Finding(CHECKSUM_FILE, "damaged" if mismatches else "complete", tuple(mismatches) or (f"{len(lines)} files match",))
    ]


def _absent(name: str, reason: str) -> Finding:
    return Finding(name, "absent", (reason,))


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
