"""Training data and calibration of the fusers: whole clips, held-out voices, agreement with the runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.experiments.true_pairs import draw_other_actors, predict_from_action_units, read_action_units
from moodring.errors import DataError
from moodring.evaluation.data.readers import RavdessClip
from moodring.fusion import Voting, WeightedAverage
from moodring.train.calibration import TEMPERATURES, confidence_threshold, select_temperature
from moodring.train.data.branch_outputs import SpeechOutputs, draw_clip_pairs, exclude_fold, fold_of, majority_labels
from moodring.train.decision import fit_face_weight, vote
from moodring.types import BranchOutput


def distributions(count: int, seed: int, sharpness: float = 2.0) -> np.ndarray:
    scores = np.exp(sharpness * np.random.default_rng(seed).standard_normal((count, 8)))
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


def output(modality: str, probabilities: np.ndarray) -> BranchOutput:
    return BranchOutput(modality, 0, probabilities, np.zeros(4, np.float32), 1.0)


def clip(actor: int, label: int = 3) -> RavdessClip:
    return RavdessClip(Path(f"{actor}"), "sound", label, actor)


def test_draw_clip_pairs_pairs_all_windows_of_a_clip():
    lengths, labels = np.array([3, 1, 4]), np.array([0, 3, 7])
    voices = SpeechOutputs(distributions(8, 0), np.repeat(np.arange(3), lengths), labels)
    pairs = draw_clip_pairs(np.array([0, 3, 6, -1]), voices, 50, seed=0)
    for row in range(50):
        windows = pairs.windows[pairs.pair_index == row]
        (clip_row,) = set(voices.clip_index[windows])
        assert len(windows) == lengths[clip_row]
        assert labels[clip_row] == pairs.truth[row]
        assert pairs.face_rows[row] == {0: 0, 3: 1, 7: 2}[int(labels[clip_row])]
    mean = pairs.mean(voices.posteriors[pairs.windows])
    np.testing.assert_allclose(mean.sum(axis=1), 1.0, atol=1e-5)


def test_exclude_fold_removes_the_actors_of_the_fold():
    assert [fold_of(actor) for actor in (1, 4, 5, 20, 21, 24)] == [0, 0, 1, 4, 0, 0]
    clips = [clip(actor) for actor in (1, 5, 20, 21)]
    assert [each.actor for each in exclude_fold(clips, 0)] == [5, 20, 21]
    assert exclude_fold(clips, None) == clips
    with pytest.raises(DataError, match="fold 0 holds out all actors of the recordings: no clips to train on"):
        exclude_fold(clips[:1], 0)


def test_majority_labels_have_no_label_for_a_tie():
    targets = np.array([[0.5, 0.5, 0, 0, 0, 0, 0], [0, 0.6, 0.4, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]], np.float32)
    assert majority_labels(targets).tolist() == [-1, 1, -1]


@given(st.integers(0, 2**32 - 1))
def test_vote_equals_the_voting_fuser(seed: int):
    face, voice = distributions(6, seed), distributions(6, seed + 1)
    expected = [Voting().fuse(output("face", f), output("speech", v)) for f, v in zip(face, voice, strict=True)]
    np.testing.assert_allclose(vote(face, voice), expected, atol=1e-5)


def test_fit_face_weight_prefers_the_more_accurate_branch():
    truth = np.random.default_rng(0).integers(0, 8, 400)
    uniform = np.full((400, 8), 0.125, np.float32)
    accurate = np.full((400, 8), 0.04, np.float32)
    accurate[np.arange(400), truth] = 0.72
    assert fit_face_weight(accurate, uniform, truth) == pytest.approx(0.95)
    assert fit_face_weight(uniform, accurate, truth) == pytest.approx(0.05)
    mixed = WeightedAverage(0.95, 0.05).fuse(output("face", accurate[0]), output("speech", uniform[0]))
    assert mixed.argmax() == truth[0]


def test_select_temperature_equalises_confidence_and_accuracy():
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((3000, 8)) * 2
    truth = np.array([rng.choice(8, p=p) for p in np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)])
    probabilities = [np.exp(3 * logits / t) / np.exp(3 * logits / t).sum(axis=1, keepdims=True) for t in TEMPERATURES]
    assert select_temperature(probabilities, truth) == pytest.approx(3.0, rel=0.15)


def test_confidence_threshold_reaches_the_precision():
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.3, 1.0, 20_000)
    truth = np.where(rng.random(20_000) < confidence, 0, 1)
    probabilities = np.concatenate([confidence[:, None], (1 - confidence[:, None]) * np.array([[0.4] + [0.1] * 6])], axis=1)
    found = confidence_threshold(probabilities, truth, precision=0.9)
    above = confidence >= found["threshold"]
    assert (truth[above] == 0).mean() == pytest.approx(0.9, abs=0.01)
    assert above.mean() == pytest.approx(found["coverage"], abs=0.01)
    assert confidence_threshold(probabilities, np.ones(20_000, int), precision=0.9)["coverage"] == pytest.approx(
        0.055, abs=0.01
    )


def test_draw_other_actors_keeps_class_and_fold():
    rng = np.random.default_rng(0)
    labels, actors = rng.integers(0, 8, 400), np.repeat(np.arange(1, 21), 20)
    folds = np.array([fold_of(actor) for actor in actors])
    rows = draw_other_actors(labels, actors, folds, rng)
    merged = np.where(labels == 7, 6, labels)
    assert (merged[rows] == merged).all()
    assert (actors[rows] != actors).all()
    assert (folds[rows] == folds).all()


def test_predict_from_action_units_generalises_to_held_out_folds():
    rng = np.random.default_rng(0)
    labels, folds = np.tile(np.arange(8), 50), np.repeat(np.arange(5), 80)
    units = np.eye(8)[labels] + 0.1 * rng.standard_normal((400, 8))
    posteriors = predict_from_action_units(units, labels, folds)
    merged = np.where(labels == 7, 6, labels)
    assert (posteriors.argmax(axis=1) == merged).mean() > 0.95
    assert (posteriors[:, 7] == 0).all()
    shuffled = predict_from_action_units(units, rng.permutation(labels), folds)
    assert (shuffled.argmax(axis=1) == merged).mean() < 0.5


def test_read_action_units_names_a_missing_recording(tmp_path: Path):
    (tmp_path / "manifest.csv").write_text("clip,actor,AU01_r\n01-01-03-01-01-01-01,1,0.5\n")
    known = RavdessClip(Path("03-01-03-01-01-01-01.wav"), "sound", 3, 1)
    assert read_action_units(tmp_path, [known]).tolist() == [[0.5]]
    with pytest.raises(DataError, match="such as 01-01-04-01-01-01-01"):
        read_action_units(tmp_path, [known, RavdessClip(Path("03-01-04-01-01-01-01.wav"), "sound", 4, 1)])
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_action_units(tmp_path / "none", [known])
