"""Readers of the published data layouts: what they return, and the errors for damaged files."""

from __future__ import annotations

import wave
from pathlib import Path

import cv2
import numpy as np
import pytest

from moodring.errors import DataError
from moodring.evaluation.data import readers
from moodring.labels import INDEX

PIXELS = " ".join(["7"] * readers.FER_PIXELS)
PLUS_HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"


def write_fer2013(tmp_path: Path, *rows: str, header: str = "emotion,pixels,Usage") -> Path:
    path = tmp_path / "fer2013.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def test_fer2013_reader_returns_faces_labels_and_usage(tmp_path: Path) -> None:
    ramp = np.arange(readers.FER_PIXELS) % 256
    data = readers.read_fer2013(write_fer2013(tmp_path, f"3,{PIXELS},Training", f"6,{' '.join(map(str, ramp))},PublicTest"))
    assert data.faces.shape == (2, 48, 48)
    assert data.faces.dtype == np.uint8
    assert data.faces[1].ravel().tolist() == ramp.tolist()
    assert data.labels.tolist() == [3, 6]
    assert data.usage.tolist() == ["Training", "PublicTest"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"7,{PIXELS},Training", "row 2: emotion must be a whole number in 0..6, found '7'"),
        (f"x,{PIXELS},Training", "row 2: emotion"),
        (f"3,{PIXELS} 7,Training", "row 2: expected 2304 pixels (48 x 48), found 2305"),
        ("3,1 2 3,Training", "row 2: expected 2304 pixels"),
        (f"3,{PIXELS[:-1]}300,Training", "row 2: pixels must lie in 0..255, found 7..300"),
        (f"3,{PIXELS[:-1]}-1,Training", "row 2: pixels must lie in 0..255"),
        (f"3,{PIXELS[:-1]}seven,Training", "row 2: pixels must be whole numbers separated by spaces"),
        (f"3,{PIXELS},Test", "row 2: Usage must be one of"),
        (f"3,{PIXELS[:500]}", "row 2: expected 3 columns, found 2; it may be a partial download"),
    ],
)
def test_fer2013_reader_names_the_damaged_row(tmp_path: Path, row: str, message: str) -> None:
    path = write_fer2013(tmp_path, f"0,{PIXELS},Training", row)
    with pytest.raises(DataError) as caught:
        readers.read_fer2013(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_fer2013_reader_names_a_missing_empty_or_foreign_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=": no such file"):
        readers.read_fer2013(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match="no rows"):
        readers.read_fer2013(write_fer2013(tmp_path))
    with pytest.raises(DataError, match="first line must be emotion,pixels,Usage"):
        readers.read_fer2013(write_fer2013(tmp_path, "a,b", header="x,y"))
    path = tmp_path / "binary.csv"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(DataError, match="cannot be read as comma-separated text"):
        readers.read_fer2013(path)


def test_ferplus_reader_returns_votes_and_removed_images(tmp_path: Path) -> None:
    path = tmp_path / "fer2013new.csv"
    path.write_text(PLUS_HEADER + "Training,fer0000000.png,4,0,0,1,3,2,0,0,0,0\nTraining,,0,0,0,0,0,0,0,0,0,10\n")
    plus = readers.read_ferplus(path, 2)
    assert plus.votes.tolist() == [[4, 0, 0, 1, 3, 2, 0, 0, 0, 0], [0] * 9 + [10]]
    assert plus.has_image.tolist() == [True, False]
    with pytest.raises(DataError, match=r"has 2 rows, but fer2013\.csv has 3; the files do not belong together"):
        readers.read_ferplus(path, 3)
    path.write_text(PLUS_HEADER + "Training,fer0000000.png,4,0,0,1,3,2,0,many,0,0\n")
    with pytest.raises(DataError, match="row 1: contempt must be a whole number"):
        readers.read_ferplus(path)


def test_class_folders_list_skipped_folders(tmp_path: Path) -> None:
    for folder in ("anger", "Happiness", "contempt"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), np.full((5, 6), 9, np.uint8))
        (tmp_path / folder / "notes.txt").write_text("not an image")
    images = readers.list_class_folders(tmp_path)
    assert images.skipped == ("contempt",)
    assert sorted(images.labels.tolist()) == sorted([INDEX["happy"], INDEX["angry"]])
    assert readers.read_grey(images.paths[0]).tolist() == [[9] * 6] * 5
    images.paths[0].write_bytes(images.paths[0].read_bytes()[:20])
    with pytest.raises(DataError, match="cannot be decoded as an image; it may be truncated"):
        readers.read_grey(images.paths[0])
    with pytest.raises(DataError, match=": no such folder"):
        readers.list_class_folders(tmp_path / "nothing")
    with pytest.raises(DataError, match="holds no images"):
        readers.list_class_folders(tmp_path / "contempt")


def write_wav(path: Path, samples: np.ndarray, rate_hz: int = 16_000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as handle:
        handle.setnchannels(channels)
        handle.setsampwidth(2)
        handle.setframerate(rate_hz)
        handle.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


def test_ravdess_recordings_are_described_by_their_names(tmp_path: Path) -> None:
    for name in (
        "Actor_02/03-01-02-01-01-02-02.wav",
        "Actor_01/03-01-08-02-02-01-01.flac",
        "Actor_01/03-01-08-02-02-01-01.wav",  # the same recording: counts once
        "Actor_01/03-02-08-02-02-01-01.wav",  # a song
        "Actor_01/01-01-08-02-02-01-01.mp4",
        "Actor_01/02-01-08-02-02-01-01.mp4",  # video without sound
        "Actor_01/readme.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    first, second = readers.list_ravdess(tmp_path)
    assert (first.actor, first.label) == (1, INDEX["surprise"])
    assert first.path.suffix == ".flac"
    assert (second.actor, second.label) == (2, INDEX["calm"])
    (video,) = readers.list_ravdess(tmp_path, "video")
    assert video.recording_key == first.recording_key


def test_ravdess_listing_names_missing_and_misnamed_recordings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=": no such folder"):
        readers.list_ravdess(tmp_path / "nothing")
    with pytest.raises(DataError, match="holds no RAVDESS recordings"):
        readers.list_ravdess(tmp_path)
    path = write_wav(tmp_path / "Actor_01" / "03-01-09-01-01-01-01.wav", np.zeros(10))
    with pytest.raises(DataError, match="gives emotion 09 and actor 01; RAVDESS has emotions 01 to 08 and actors 01 to 24"):
        readers.list_ravdess(tmp_path)
    path.rename(path.with_name("03-01-03-01-01-01-05.wav"))
    with pytest.raises(DataError, match="the file name gives actor 5, but the folder is Actor_01"):
        readers.list_ravdess(tmp_path)


@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (48_000, 1), (44_100, 2), (8_000, 1)])
def test_sound_is_converted_to_mono_at_the_sample_rate(tmp_path: Path, rate_hz: int, channels: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz)
    samples = readers.read_sound(write_wav(tmp_path / "tone.wav", np.repeat(tone, channels), rate_hz, channels))
    assert samples.dtype == np.float32
    assert abs(len(samples) - 16_000) <= 32
    spectrum = np.abs(np.fft.rfft(samples[2000:14_000]))
    assert abs(np.argmax(spectrum) * 16_000 / 12_000 - 440) < 2
    assert samples[2000:14_000].std() == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_sound_reader_names_a_missing_or_damaged_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=": no such file"):
        readers.read_sound(tmp_path / "nothing.wav")
    path = tmp_path / "text.wav"
    path.write_text("not a sound file")
    with pytest.raises(DataError, match="cannot be decoded as sound"):
        readers.read_sound(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"text\.wav"):
        readers.read_sound(path)
    with pytest.raises(DataError, match="holds no samples"):
        readers.read_sound(write_wav(tmp_path / "empty.wav", np.zeros(0)))


@pytest.mark.data
def test_real_recordings_have_the_published_counts(data_dir: Path) -> None:
    clips = readers.list_ravdess(data_dir / "ravdess")
    assert len(clips) == 1200
    assert {clip.actor for clip in clips} == set(range(1, 21))
    samples = readers.read_sound(clips[0].path)
    assert len(samples) / 16_000 == pytest.approx(3.3033, abs=1e-3)
    images = readers.list_class_folders(data_dir / "ck48")
    assert images.skipped == ("contempt",)


@pytest.mark.data
def test_real_fer2013_has_the_published_counts(fer2013_csv: Path) -> None:
    data = readers.read_fer2013(fer2013_csv)
    assert {name: int((data.usage == name).sum()) for name in ("Training", "PublicTest")} == {
        "Training": 28_709,
        "PublicTest": 3589,
    }
    plus = readers.read_ferplus(fer2013_csv.with_name("fer2013new.csv"), len(data.labels))
    assert plus.votes.sum(axis=1).max() <= 10 or plus.votes.shape == (len(data.labels), 10)
