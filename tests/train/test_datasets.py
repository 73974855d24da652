"""FER2013, FER+, RAVDESS and noise as training arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from moodring.errors import DataError
from moodring.evaluation.data.readers import Fer2013, FerPlus
from moodring.evaluation.speech import clip_windows
from moodring.features.audio.window import BATCH_FRAMES
from moodring.features.spec import SpeechSpec
from moodring.labels import FERPLUS_COLUMNS, INDEX
from moodring.train.data.faces import ferplus_targets, find_fer2013, load_faces, official_targets, prepare_faces, scene_crops
from moodring.train.data.splits import image_hashes
from moodring.train.data.voices import find_ravdess, load_noises, load_utterances, window_ends


def votes(**given: int) -> np.ndarray:
    return np.array([given.get(name, 0) for name in FERPLUS_COLUMNS], np.uint8)


def test_ferplus_targets_are_vote_shares_over_the_seven_classes() -> None:
    rows = np.stack([
        votes(neutral=4, anger=4, contempt=2),
        votes(happiness=3, unknown=7),  # unknown won
        votes(contempt=6, neutral=4),  # contempt won
        votes(NF=10),
        votes(fear=10),
    ])  # fmt: skip
    targets = ferplus_targets(rows, np.array([True, True, True, True, False]))
    assert targets[0, INDEX["neutral"]] == targets[0, INDEX["angry"]] == 0.5
    assert targets[0].sum() == 1.0
    assert not targets[1:].any()  # FER+ removed the last image


def test_official_targets_average_the_labels_of_copies() -> None:
    faces = np.stack([np.full((48, 48), value, np.uint8) for value in (1, 1, 2, 1)])
    targets = official_targets(np.array([0, 3, 5, 3]), image_hashes(faces))
    assert targets[0, 0] == pytest.approx(1 / 3)
    assert targets[0, 3] == pytest.approx(2 / 3)
    assert targets[2, 5] == 1.0
    assert (targets[0] == targets[1]).all()


def test_black_rejected_and_test_images_have_no_targets() -> None:
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (5, 48, 48), dtype=np.uint8)
    faces[1] = 0
    fer = Fer2013(faces, np.array([0, 1, 2, 3, 4]), np.array(["Training"] * 4 + ["PublicTest"]))
    plus = FerPlus(np.stack([votes(anger=10), votes(anger=10), votes(NF=9, fear=1), votes(happiness=10), votes(sadness=10)]),
                   np.ones(5, np.bool_))  # fmt: skip
    data = prepare_faces(fer, plus)
    assert data.usable.tolist() == [1, 0, 0, 1, 1]
    assert data.official.sum(axis=1).tolist() == [1, 0, 0, 1, 0]
    assert data.ferplus.sum(axis=1).tolist() == [1, 0, 0, 1, 0]


def test_missing_data_raises_an_error_that_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        find_fer2013(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: holds neither fer2013.csv nor fer2013/fer2013.csv; pass a folder that does, or unpack FER2013 with "
        f"`make data DATA={tmp_path}` and pass build/data"
    )
    with pytest.raises(DataError, match="no RAVDESS recordings") as caught:
        find_ravdess(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert load_noises([tmp_path], 16_000) == []
    assert scene_crops(tmp_path, 10, np.random.default_rng(0)).shape == (0, 48, 48)


@pytest.mark.parametrize("subfolder", ["", "fer2013"])
def test_fer2013_is_found_in_the_folder_and_its_subfolder(tmp_path: Path, subfolder: str) -> None:
    folder = tmp_path / subfolder
    folder.mkdir(exist_ok=True)
    (folder / "fer2013.csv").touch()
    assert find_fer2013(tmp_path) == (folder / "fer2013.csv", None)
    (folder / "fer2013new.csv").touch()
    assert find_fer2013(tmp_path) == (folder / "fer2013.csv", folder / "fer2013new.csv")


def test_fer2013_in_the_build_folder_of_the_working_directory_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build" / "data").mkdir(parents=True)
    (tmp_path / "build" / "data" / "fer2013.csv").touch()
    with pytest.raises(DataError, match="holds neither"):
        find_fer2013(tmp_path)


@pytest.mark.data
def test_load_faces_caches_the_images(fer2013_csv: Path, tmp_path: Path) -> None:
    data = load_faces(fer2013_csv.parent, tmp_path)
    again = load_faces(fer2013_csv.parent, tmp_path)
    assert len(list(tmp_path.glob("fer2013-*.npz"))) == 1
    assert (data.faces == again.faces).all()
    rows = data.split.train
    assert (data.usable[rows] == 0).sum() > 10  # black, or rejected by the voters
    labelled = data.official[rows].sum(axis=1)
    assert np.allclose(labelled[labelled > 0], 1.0)
    voted = data.ferplus[rows].sum(axis=1)
    assert np.allclose(voted[voted > 0], 1.0)
    assert 0.9 < (voted > 0).mean() < 1.0


@pytest.mark.data
def test_load_utterances_drops_exact_copies(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "Actor_07").symlink_to(data_dir / "ravdess" / "Actor_07")
    voices = load_utterances([tmp_path], SpeechSpec())
    assert len(voices) == 59  # Actor_07's 03-01-03-01-02-01-07 and -02-07 are identical
    for voice in voices[::10]:
        assert len(voice.ends) > 50
        assert voice.ends.min() >= SpeechSpec().min_frames


@pytest.mark.data
def test_training_windows_end_where_runtime_windows_end(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "Actor_01").symlink_to(data_dir / "ravdess" / "Actor_01")
    spec = SpeechSpec()
    for voice in load_utterances([tmp_path], spec)[::20]:
        (ends,) = window_ends([voice.samples], spec)
        times = [window.capture_time_ns for window in clip_windows(voice.samples, spec)]
        runtime_ends = [(ns * 16_000 // 10**9 - spec.mfcc.window_samples) // spec.mfcc.hop_samples + 1 for ns in times]
        assert set(runtime_ends) <= set(ends.tolist())
        assert runtime_ends[0] == ends[ends % BATCH_FRAMES == 0][0]


@pytest.mark.data
def test_load_noises_holds_out_the_evaluation_noise(data_dir: Path) -> None:
    assert len(load_noises([data_dir], 16_000)) == 80  # fold 1 of ESC-10
