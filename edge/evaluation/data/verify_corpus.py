"""Verification of a speech corpus with a manifest: decodes every recording and lists what is wrong, row by row."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import av.error
import numpy as np

from moodring.errors import DataError
from moodring.evaluation.data.corpus import MANIFEST, Clip, Fault, find_columns, read_manifest
from moodring.evaluation.data.finding import MIN_DURATION_S, Finding
from moodring.evaluation.data.readers import IMAGE_SUFFIXES, read_sound
from moodring.evaluation.data.table import read_table
from moodring.evaluation.engine import progress
from moodring.labels import INDEX
from moodring.types import F32, SAMPLE_RATE_HZ

SILENCE_PEAK = 0.001  # -60 dBFS
FULL_SCALE = 0.99
MAX_CLIPPED = 0.001  # share of samples in runs at full scale
SPLIT_COLUMNS = ("split", "usage", "partition", "fold")


def find_corpora(folder: Path) -> list[Path]:
    """Return the folders with a manifest of speech: the folder itself, else those directly in it.

    RAVDESS is left out, as its names hold its labels, and so are manifests of images and of recordings without speakers.
    """
    if (folder / MANIFEST).is_file() and not _is_ravdess(folder):
        return [folder]
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not _is_ravdess(path) and _lists_speech(path)]


def _is_ravdess(folder: Path) -> bool:
    return any(folder.glob("Actor_*"))


def _lists_speech(folder: Path) -> bool:
    """Return whether the manifest of a folder has the column path, one of speaker and label, and does not name images."""
    try:
        header, rows = read_table(folder / MANIFEST)
    except DataError:
        return False
    places = find_columns(header)
    if "path" not in places or len(places) == 1:
        return False
    first = next(iter(rows.values()))
    return places["path"] >= len(first) or Path(first[places["path"]]).suffix.lower() not in IMAGE_SUFFIXES


def verify_corpus(folder: Path) -> Finding:
    """Verify one corpus. It is damaged if a row cannot be used or contradicts another one; warnings leave it complete."""
    try:
        clips, faults = read_manifest(folder)
    except DataError as error:
        return Finding(folder.resolve().name, "damaged", (str(error),))
    audit = _Audit(folder)
    for clip in progress(clips, folder.name):
        audit.add(clip)
    errors = [*faults, *audit.errors, *_split_faults(clips)]
    marked = [(fault, "error") for fault in errors] + [(fault, "warning") for fault in audit.warnings]
    lines = tuple(f"row {fault.row}: {kind}: {fault.text}" for fault, kind in sorted(marked))
    notes = tuple(audit.notes(clips))
    if lines:
        notes += (f"{len(errors)} errors and {len(audit.warnings)} warnings in {folder / MANIFEST}, listed below",)
    return Finding(folder.resolve().name, "damaged" if errors else "complete", notes, lines)


class _Audit:
    """Counts over the recordings of a corpus, and what is wrong with them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._samples = 0
        self._rates: Counter[int] = Counter()
        self._first_copies: dict[bytes, Clip] = {}
        self.errors: list[Fault] = []
        self.warnings: list[Fault] = []

    def add(self, clip: Clip) -> None:
        """Decode a recording and check it."""
        row, name = clip.row or 0, clip.path.relative_to(self._folder)
        try:
            samples = read_sound(clip.path)
            self._rates[sample_rate_hz(clip.path)] += 1
        except DataError as error:
            self.errors.append(Fault(row, str(error)))
            return
        self._samples += samples.size
        self.warnings += [Fault(row, f"{name} {text}") for text in sound_warnings(samples)]
        first = self._first_copies.setdefault(hashlib.sha256(samples.tobytes()).digest(), clip)
        if first is not clip:
            text = f"{name} has the same sound as row {first.row}"
            if (first.speaker, first.label) == (clip.speaker, clip.label):
                self.warnings.append(Fault(row, text))
            else:
                self.errors.append(
                    Fault(row, f"{text}, which is {first.label or 'without a label'} of speaker {first.speaker}")
                )

    def notes(self, clips: Sequence[Clip]) -> Iterator[str]:
        """Yield lines on the content of the corpus."""
        speakers = Counter(clip.speaker for clip in clips)
        hours = self._samples / SAMPLE_RATE_HZ / 3600
        rates = ", ".join(f"{rate} Hz: {count}" for rate, count in sorted(self._rates.items())) or "none"
        yield f"{len(clips)} recordings of {len(speakers)} speakers, {hours:.2f} h; sample rates: {rates}"
        labels = Counter(clip.label or "without a label" for clip in clips)
        yield "classes: " + ", ".join(f"{label} {count}" for label, count in sorted(labels.items()))
        if own := sorted({clip.label for clip in clips if clip.label and clip.label not in INDEX}):
            yield f"classes that are not moodring's: {', '.join(own)}; only a network trained on them has them"
        yield "speakers: " + ", ".join(f"{speaker} {count}" for speaker, count in sorted(speakers.items()))


def sound_warnings(samples: F32) -> Iterator[str]:
    """Yield what is suspicious about a recording, samples float32 [N]: too short, silent or clipped."""
    if samples.size < MIN_DURATION_S * SAMPLE_RATE_HZ:
        yield f"is only {samples.size / SAMPLE_RATE_HZ:.2f} s long; a window needs {MIN_DURATION_S:g} s"
    level = np.abs(samples)
    if level.max() < SILENCE_PEAK:
        yield "is silent: no sample reaches -60 dBFS"
    full = level >= FULL_SCALE
    clipped = float(np.mean(full[1:] & full[:-1])) if samples.size > 1 else 0.0
    if clipped > MAX_CLIPPED:
        yield f"is clipped: {100 * clipped:.1f} % of its samples are at full scale"


def sample_rate_hz(path: Path) -> int:
    """Return the sample rate in which FFmpeg decodes a file (Opus: 48,000 Hz). Raises DataError."""
    try:
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            return int(container.streams.audio[0].rate or 0)
    except (av.error.FFmpegError, OSError) as error:
        raise DataError(f"{path}: cannot be decoded as sound ({error}); it may be truncated") from error


def _split_faults(clips: Sequence[Clip]) -> Iterator[Fault]:
    """Yield the first clip of each speaker that is in another part of a split than the speaker's clips before."""
    for column in SPLIT_COLUMNS:
        first: dict[str, Clip] = {}
        reported = set()
        for clip in clips:
            before = first.setdefault(clip.speaker, clip)
            part, part_before = clip.columns.get(column), before.columns.get(column)
            if part != part_before and clip.speaker not in reported:
                reported.add(clip.speaker)
                text = f"speaker {clip.speaker} is in {column} {part} here, but in {part_before} in row {before.row}"
                yield Fault(clip.row or 0, f"{text}; keep all recordings of a speaker in one part")
