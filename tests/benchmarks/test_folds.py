"""Cross-validation of the speech model: splits, calibration and pooled figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.experiments.cross_validation import PROTOCOL, concatenate_windows, split_hash
from benchmarks.experiments.folds import confusion_rates, label_agreement, pooled_metrics
from moodring.errors import ExportError
from moodring.evaluation.data.corpus import Clip
from moodring.inference.bundle import load
from moodring.train.calibration import softmax
from moodring.train.data.speech_windows import SpeechWindows, clip_probabilities
from moodring.train.data.splits import FOLDS, actors_of, fold_actors, split_recordings
from moodring.train.data.voices import Utterance
from moodring.train.speech import fit_clip_temperature, usable_threshold

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return json.loads((ROOT / "docs" / "models" / "speech_folds.json").read_text())


def test_committed_fold_bundles_are_those_measured(figures: dict[str, Any]) -> None:
    for fold in range(FOLDS):
        bundle = load(ROOT / "train" / "folds" / f"fold{fold}", ("speech",))
        assert bundle.id == figures["bundles"][fold]
        assert set(bundle.models["speech"].files) == {"fp32", "int8"}
        for precision in ("fp32", "int8"):
            bundle.open("speech", precision)
        assert sum(file.stat().st_size for file in bundle.models["speech"].files.values()) < 3e6


def test_test_actors_of_a_fold_are_held_out(figures: dict[str, Any]) -> None:
    test_actors: list[int] = []
    for fold, split in enumerate(figures["splits"]):
        actors = split["actors"]
        assert actors["test"] == list(fold_actors(fold))
        assert not set(actors["test"]) & {*actors["train"], *actors["validation"]}
        assert split["sha256"] == split_hash(split)
        test_actors += actors["test"]
    assert sorted(test_actors) == list(range(1, 21))
    assert figures["pooled"]["n"] == np.sum(figures["pooled"]["confusion"]) == 1200


def speech_windows(count: int, labels: list[int]) -> SpeechWindows:
    clip = np.arange(count) % len(labels)
    return SpeechWindows(np.zeros((count, 2, 3), np.float32), np.sort(clip), np.array(labels, np.int64), np.ones(count))


def test_usable_threshold_is_a_low_quantile_within_limits() -> None:
    assert usable_threshold(np.linspace(0.0, 10.0, 1001, dtype=np.float32)) == pytest.approx(0.05)
    assert usable_threshold(np.full(100, -3.0, np.float32)) == 0.0  # never below the threshold of the network
    assert usable_threshold(np.full(100, 9.0, np.float32)) == 4.0  # never above the maximum


def test_concatenate_windows_shifts_clip_indices() -> None:
    joined = concatenate_windows([speech_windows(4, [1, 2]), speech_windows(3, [5])])
    assert joined.clip_index.tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert joined.labels.tolist() == [1, 2, 5]
    assert len(joined.windows) == 7


def test_fit_clip_temperature_calibrates_the_mean_over_windows() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 600)
    parts = SpeechWindows(np.zeros((1800, 1, 1), np.float32), np.repeat(np.arange(600), 3), labels, np.ones(1800))
    logits = rng.standard_normal((1800, 8)).astype(np.float32)
    logits[np.arange(1800), np.repeat(labels, 3)] += 1.0
    logits *= 8.0
    temperature = fit_clip_temperature(logits, parts)

    probabilities, truth = clip_probabilities(logits, parts, temperature)
    accuracy = (probabilities.argmax(axis=1) == truth).mean()
    assert probabilities.max(axis=1).mean() == pytest.approx(accuracy, abs=0.02)
    by_window = softmax(logits, temperature)
    assert by_window.max(axis=1).mean() > probabilities.max(axis=1).mean() + 0.02


def test_clip_probabilities_weights_windows() -> None:
    logits = np.zeros((2, 8), np.float32)
    logits[0, 3] = logits[1, 5] = 4.0
    windows = SpeechWindows(np.zeros((2, 1, 1), np.float32), np.zeros(2, np.int64), np.array([5]), np.array([1 / 3, 1.0]))
    probabilities, _ = clip_probabilities(logits, windows)
    by_window = softmax(logits)
    np.testing.assert_allclose(probabilities[0], (by_window[0] / 3 + by_window[1]) / (4 / 3), rtol=1e-6)


def test_split_hash_depends_on_actors_only() -> None:
    card = {"actors": {"train": [5, 6], "validation": [], "test": [1, 2]}}
    assert split_hash(card) == split_hash({"actors": dict(reversed(card["actors"].items()))})
    assert split_hash(card) != split_hash({"actors": {**card["actors"], "test": [1, 3]}})


def test_pooled_metrics_rejects_clip_in_two_folds(tmp_path: Path) -> None:
    names = [f"03-01-{emotion:02d}-01-01-01-{actor:02d}" for actor in (1, 5) for emotion in (3, 5)]  # happy, angry
    for name in names:
        path = tmp_path / f"Actor_{name[-2:]}" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    happy = np.eye(8)[3].tolist()
    folds = [{"clips": dict.fromkeys(names[:2], happy)}, {"clips": dict.fromkeys(names[2:], happy)}]
    assert pooled_metrics(folds, tmp_path)["accuracy"] == 0.5
    with pytest.raises(ExportError, match="a clip was tested in two folds"):
        pooled_metrics([folds[0], folds[0]], tmp_path)


def test_label_agreement_counts_clips_of_all_folds() -> None:
    fp32 = [{"clips": {"a": [0.9, 0.1], "b": [0.6, 0.4]}}, {"clips": {"c": [0.2, 0.8], "d": [0.5, 0.4]}}]
    int8 = [{"clips": {"b": [0.4, 0.6], "a": [0.8, 0.2]}}, {"clips": {"c": [0.1, 0.9], "d": [0.6, 0.4]}}]
    assert label_agreement(fp32, int8) == 0.75


def test_confusion_rates_are_shares_of_the_true_class() -> None:
    matrix = np.zeros((8, 8), int)
    matrix[4, 4], matrix[4, 2] = 3, 1  # one of four sad clips gets the label fear
    rates = confusion_rates(matrix.tolist(), (("sad", "fear"),))
    assert rates == {"sad taken for fear": 0.25, "fear taken for sad": 0.0}


def test_split_recordings_can_mix_actors() -> None:
    clips = [Clip(Path(f"Actor_{1 + row % 20:02d}/{row}"), f"{1 + row % 20}", "happy", 3) for row in range(200)]
    voices = [Utterance(clip, np.zeros(1, np.float32), np.array([1]), "ravdess") for clip in clips]
    separate, mixed = (split_recordings(voices, 0, mix_actors=mix_actors) for mix_actors in (False, True))
    assert actors_of(voices, separate.test) == [1, 2, 3, 4]
    assert not {*actors_of(voices, separate.test)} & {
        *actors_of(voices, separate.train),
        *actors_of(voices, separate.validation),
    }
    for part in ("train", "validation", "test"):
        assert len(getattr(mixed, part)) == len(getattr(separate, part))
    assert sorted([*mixed.train, *mixed.validation, *mixed.test]) == list(range(200))
    assert {*actors_of(voices, mixed.test)} & {*actors_of(voices, mixed.train)}


def test_split_recordings_without_validation_trains_on_all_but_test_actors() -> None:
    clips = [Clip(Path(f"Actor_{1 + row % 20:02d}/{row}"), f"{1 + row % 20}", "happy", 3) for row in range(200)]
    voices = [Utterance(clip, np.zeros(1, np.float32), np.array([1]), "ravdess") for clip in clips]
    fold = split_recordings(voices, 2, no_validation=True)
    assert actors_of(voices, fold.train) == [*range(1, 9), *range(13, 21)]
    assert actors_of(voices, fold.test) == [9, 10, 11, 12]
    shipped = split_recordings(voices, None, no_validation=True)
    assert actors_of(voices, shipped.train) == list(range(1, 21))
    assert not len(shipped.test)


def test_shipped_card_and_bundle_list_all_actors() -> None:
    card = json.loads((ROOT / "train" / "checkpoints" / "speech.json").read_text())
    assert card["protocol"] == PROTOCOL
    assert card["actors"]["train"] == list(range(1, 21))
    assert not card["actors"]["test"]
    training = load(ROOT / "edge" / "bundles" / "default").training
    assert f"speech: {PROTOCOL}" in training["protocol"]
