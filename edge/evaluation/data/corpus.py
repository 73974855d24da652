"""Reader of speech corpora: a folder with manifest.csv, or RAVDESS or TESS in their published layouts.

A manifest is comma-separated text in UTF-8 with the columns path, speaker and label. Its rows are numbered from 1 after the
header.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moodring.errors import DataError
from moodring.evaluation.data.readers import list_ravdess, list_tess, read_sound
from moodring.evaluation.data.table import parse_number, read_table
from moodring.evaluation.data.votes import VOTES, parse_votes, read_votes
from moodring.labels import INDEX, LABELS, speech_label
from moodring.types import F32, SAMPLE_RATE_HZ

MANIFEST = "manifest.csv"
# Required columns with the names that published corpora give them, the name of this format first.
COLUMNS = {"path": ("path", "file", "audio"), "speaker": ("speaker", "actor"), "label": ("label", "emotion")}


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording of a corpus.

    `label` is a name of LABELS, a class of the corpus's own in lower case, or "" without a label; `index` is its place in
    LABELS, None for the last two. `weight` weighs the clip in training. `votes` holds the share of the listeners by label; the
    shares sum to 1. `columns` holds the other columns of its row in the manifest, whose number is `row` (None without one).
    """

    path: Path
    speaker: str
    label: str
    index: int | None
    weight: float = 1.0
    votes: Mapping[str, float] | None = field(default=None, hash=False)
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)
    row: int | None = None

    def read(self, rate_hz: int = SAMPLE_RATE_HZ) -> F32:
        """Decode the clip to mono float32 [N] at `rate_hz`. Raises DataError."""
        try:
            return read_sound(self.path, rate_hz)
        except DataError as error:
            raise self.error(str(error)) from error

    def error(self, text: str) -> DataError:
        """Return an error about this clip: `text`, which names its file, and its row of the manifest."""
        return DataError(text if self.row is None else f"{text} ({MANIFEST} row {self.row})")


@dataclass(frozen=True, slots=True)
class Corpus:
    """A speech corpus: the name of its folder, and its clips in the order of the manifest, else of their names."""

    name: str
    folder: Path
    clips: tuple[Clip, ...]

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers in alphabetical order."""
        return tuple(sorted({clip.speaker for clip in self.clips}))

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that the corpus has: those of LABELS in their order, then its own in alphabetical order."""
        found = {clip.label for clip in self.clips} - {""}
        return (*(label for label in LABELS if label in found), *sorted(found - set(LABELS)))

    def of_speakers(self, speakers: Sequence[str]) -> Corpus:
        """Return the part of these speakers. Raises DataError if one of them has no clip."""
        if missing := [speaker for speaker in speakers if speaker not in self.speakers]:
            raise DataError(f"{self.folder}: holds no clips of speaker {', '.join(missing)}; it has {', '.join(self.speakers)}")
        return dataclasses.replace(self, clips=tuple(clip for clip in self.clips if clip.speaker in speakers))


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """What is wrong with a row of a manifest."""

    row: int
    text: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.text}"


def read_corpus(folder: Path) -> Corpus:
    """Read a folder with manifest.csv, or RAVDESS (Actor_NN folders) or TESS in their published layouts.

    Raises DataError for the first row that is wrong; it names file and row. `moodring data verify` lists all of them. The
    sound is not decoded.
    """
    name = folder.resolve().name
    if (folder / MANIFEST).is_file():
        clips, faults = read_manifest(folder)
        if faults:
            more = f" (and {len(faults) - 1} more: run moodring data verify {folder})" if len(faults) > 1 else ""
            raise DataError(f"{folder / MANIFEST}: {faults[0]}{more}")
        return Corpus(name, folder, clips)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    if any(folder.glob("Actor_*")):
        return Corpus(name, folder, tuple(_known(clip.path, str(clip.actor), clip.label) for clip in list_ravdess(folder)))
    try:
        return Corpus(name, folder, tuple(_known(clip.path, clip.speaker, clip.label) for clip in list_tess(folder)))
    except DataError as error:
        raise DataError(
            f"{folder}: holds neither {MANIFEST} (path,speaker,label) nor recordings in the layout of RAVDESS or TESS"
        ) from error


def _known(path: Path, speaker: str, index: int) -> Clip:
    return Clip(path, speaker, LABELS[index], index)


def read_manifest(folder: Path) -> tuple[tuple[Clip, ...], list[Fault]]:
    """Read manifest.csv, and votes.csv if it is there; return the clips of the intact rows, and what is wrong with the others.

    Raises DataError if one of the files is not a table with the required columns.
    """
    manifest = folder / MANIFEST
    header, rows = read_table(manifest)
    places = find_columns(header)
    if missing := [name for name in COLUMNS if name not in places]:
        raise DataError(
            f"{manifest}: the first line has no column {' and '.join(missing)}; it must name path, speaker and label, "
            f"separated by commas, found {','.join(header)[:80]!r}"
        )
    has_labels = any(cells[places["label"]].strip() for cells in rows.values() if len(cells) == len(header))
    clips: list[Clip] = []
    faults: list[Fault] = []
    first_rows: dict[Path, int] = {}
    for row, cells in rows.items():
        try:
            clip = _parse_row(folder, header, places, row, cells)
        except ValueError as error:
            faults.append(Fault(row, str(error)))
            continue
        first = first_rows.setdefault(clip.path, row)
        if has_labels and not clip.label:
            faults.append(Fault(row, "the label is empty; fill it in, or remove the row"))
        elif first != row:
            faults.append(Fault(row, f"{clip.path.relative_to(folder)} is also in row {first}; keep one of the rows"))
        else:
            clips.append(clip)
    return _add_votes(folder, clips), faults


def find_columns(header: Sequence[str]) -> dict[str, int]:
    """Return the place of each required column that a header has."""
    found = {name: [header.index(known) for known in names if known in header] for name, names in COLUMNS.items()}
    return {name: places[0] for name, places in found.items() if places}


def _parse_row(folder: Path, header: list[str], places: dict[str, int], row: int, cells: list[str]) -> Clip:
    """Return the clip of a row, without the votes of votes.csv. Raises ValueError."""
    if len(cells) != len(header):
        raise ValueError(f"expected {len(header)} columns, found {len(cells)}; a cell with a comma needs quotation marks")
    path, speaker, label = (cells[places[name]].strip() for name in COLUMNS)
    if not speaker:
        raise ValueError("the speaker is empty; name each speaker, so that no speaker is in two parts of a split")
    columns = {name: cells[place].strip() for place, name in enumerate(header) if place not in places.values() and name}
    name = speech_label(label)
    return Clip(
        path=_find_file(folder, path),
        speaker=speaker,
        label=name,
        index=INDEX.get(name),
        weight=_parse_weight(columns.pop("weight", "")),
        votes=parse_votes(columns.pop("votes", "")),
        columns=columns,
        row=row,
    )


def _find_file(folder: Path, text: str) -> Path:
    """Return the file that a manifest names by a path below its folder, with slashes or backslashes. Raises ValueError."""
    if not text:
        raise ValueError("the path is empty")
    for name in (text, text.replace("\\", "/")):
        relative = Path(os.path.normpath(name))
        if relative.is_absolute() or relative.parts[:1] == ("..",):
            raise ValueError(f"the path {text} leaves the folder of the manifest; name a file in this folder")
        if os.path.isfile(folder / relative):  # noqa: PTH113  False for a name that no file can have
            return folder / relative
    raise ValueError(f"{text}: no such file")


def _parse_weight(text: str) -> float:
    weight = parse_number(text or "1")
    if weight is None:
        raise ValueError(f"weight must be a number of at least 0, found {text[:20]!r}")
    return weight


def _add_votes(folder: Path, clips: Sequence[Clip]) -> tuple[Clip, ...]:
    """Return the clips with the votes of votes.csv, which replace those of the manifest. Raises DataError."""
    votes = read_votes(folder, {clip.label for clip in clips} | set(LABELS))
    stems = Counter(clip.path.stem for clip in clips)
    if twice := next((stem for stem, count in stems.items() if count > 1 and stem in votes), None):
        raise DataError(f"{folder / VOTES}: {twice} names {stems[twice]} files of {MANIFEST}; name the clips by their paths")
    result = []
    for clip in clips:
        shares = votes.get(clip.path.relative_to(folder).as_posix()) or votes.get(clip.path.stem)
        result.append(dataclasses.replace(clip, votes=shares) if shares else clip)
    return tuple(result)
