"""Fusion: a probability distribution from both branches or from one; an error without any."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.errors import BundleError
from moodring.fusion import FeatureFusion, Voting, WeightedAverage, freshness, open_fuser, tempered
from moodring.inference.bundle import load
from moodring.types import BranchOutput
from tests.support.tiny_bundle import EMBEDDING

distributions = st.lists(st.floats(0.001, 1.0), min_size=8, max_size=8).map(
    lambda values: (np.array(values) / np.sum(values)).astype(np.float32)
)


def branch(modality: str, probabilities: np.ndarray, seed: int = 0) -> BranchOutput:
    embedding = np.random.default_rng(seed).normal(size=EMBEDDING).astype(np.float32)
    return BranchOutput(modality, 0, probabilities, embedding, 1.0)


def sure(index: int, of: float = 1.0) -> np.ndarray:
    p = np.full(8, (1 - of) / 7, np.float32)
    p[index] = of
    return p


@pytest.fixture(params=["feature", "weighted", "voting"])
def fuser(request, tiny_bundle):
    return open_fuser(load(tiny_bundle), request.param, "fp32", "onnx")


def is_distribution(p: np.ndarray) -> bool:
    return p.shape == (8,) and p.dtype == np.float32 and (p >= 0).all() and abs(p.sum() - 1) < 1e-5


def test_both_branches_or_one_give_a_distribution(fuser):
    face, speech = branch("face", sure(3, 0.8), 1), branch("speech", sure(0, 0.6), 2)
    assert is_distribution(fuser.fuse(face, speech))
    assert is_distribution(fuser.fuse(face, None))
    assert is_distribution(fuser.fuse(None, speech))


def test_fusing_no_branch_is_an_error(fuser):
    with pytest.raises(ValueError, match="nothing to fuse"):
        fuser.fuse(None, None)


def test_fusion_does_not_change_its_inputs(fuser):
    face, speech = branch("face", sure(3, 0.8), 1), branch("speech", sure(0, 0.6), 2)
    kept = [face.probabilities.copy(), speech.probabilities.copy(), face.embedding.copy()]
    fuser.fuse(face, speech)
    fuser.fuse(face, None)[:] = 0.0
    for before, after in zip(kept, (face.probabilities, speech.probabilities, face.embedding), strict=True):
        np.testing.assert_array_equal(before, after)


@given(face=distributions, speech=distributions, weight=st.floats(0.01, 10))
def test_a_weighted_average_lies_between_both_outputs(face: np.ndarray, speech: np.ndarray, weight: float):
    fused = WeightedAverage(weight, 1.0).fuse(branch("face", face), branch("speech", speech))
    assert is_distribution(fused)
    assert (fused >= np.minimum(face, speech) - 1e-6).all()
    assert (fused <= np.maximum(face, speech) + 1e-6).all()


def test_weights_shift_the_average():
    face, speech = branch("face", sure(3)), branch("speech", sure(0))
    np.testing.assert_allclose(WeightedAverage(1, 3).fuse(face, speech)[[3, 0]], [0.25, 0.75])
    np.testing.assert_allclose(WeightedAverage(1, 3).fuse(face, None), sure(3))
    np.testing.assert_allclose(WeightedAverage(1, 3).fuse(None, speech), sure(0))


@given(face=distributions, speech=distributions)
def test_the_more_confident_branch_wins_the_vote(face: np.ndarray, speech: np.ndarray):
    fused = Voting().fuse(branch("face", face), branch("speech", speech))
    assert is_distribution(fused)
    surer = face if face.max() >= speech.max() else speech
    assert fused[surer.argmax()] == fused.max()


def test_a_vote_of_one_branch_is_its_output():
    np.testing.assert_allclose(Voting().fuse(branch("face", sure(2, 0.5)), None), sure(2, 0.5), atol=1e-3)


class Recorder:
    def run(self, inputs):
        self.asked = {name: value.copy() for name, value in inputs.items()}
        return {head: np.zeros((1, 8), np.float32) for head in ("official", "ferplus")}


def test_the_network_receives_the_trust_in_each_branch(tiny_bundle):
    network = Recorder()
    fuser = FeatureFusion(network, load(tiny_bundle).models["fusion"])
    face = dataclasses.replace(branch("face", sure(0), 1), usable=0.8, quality=0.25)
    speech = dataclasses.replace(branch("speech", sure(0), 2), usable=0.9)
    np.testing.assert_allclose(fuser.fuse(face, speech, (1.0, 0.5)), np.full(8, 0.125))
    np.testing.assert_allclose(network.asked["presence"], [[0.8 * 0.5, 0.9 * 0.5]], rtol=1e-6)
    np.testing.assert_array_equal(network.asked["face_embedding"], face.embedding[None])
    np.testing.assert_array_equal(network.asked["speech_embedding"], speech.embedding[None])


def test_a_single_branch_is_returned_unchanged(fuser):
    face, speech = branch("face", sure(3, 0.8), 1), branch("speech", sure(0, 0.6), 2)
    np.testing.assert_array_equal(fuser.fuse(face, None), face.probabilities)
    np.testing.assert_array_equal(fuser.fuse(None, speech), speech.probabilities)


@pytest.mark.parametrize("fuser", [WeightedAverage(1, 1), Voting()])
def test_an_older_output_has_less_weight(fuser):
    face, speech = branch("face", sure(3, 0.8)), branch("speech", sure(0, 0.7))
    both = [fuser.fuse(face, speech, (fresh, 1.0)) for fresh in (1.0, 0.5, 0.0)]
    assert both[0].argmax() == 3
    assert both[2].argmax() == 0
    assert is_distribution(fuser.fuse(face, speech, (0.0, 0.0)))


def test_freshness_is_full_for_half_the_limit_and_then_falls():
    assert [freshness(age_s, 1.0) for age_s in (-0.1, 0.0, 0.5, 0.75, 1.0, 2.0)] == pytest.approx([1, 1, 1, 0.5, 0, 0])


@given(p=distributions, temperature=st.floats(0.3, 3.0))
def test_a_temperature_changes_the_confidence_and_not_the_label(p: np.ndarray, temperature: float):
    changed = tempered(p, temperature)
    assert is_distribution(changed)
    assert changed[p.argmax()] == changed.max()
    assert (changed.max() >= p.max() - 1e-6) if temperature <= 1 else (changed.max() <= p.max() + 1e-6)


def test_decision_fusion_needs_weights_in_the_bundle(tiny_bundle):
    bundle = load(tiny_bundle)
    without = dataclasses.replace(bundle.models["fusion"], weights=None)
    bundle = dataclasses.replace(bundle, models=bundle.models | {"fusion": without})
    with pytest.raises(BundleError, match="has no weights for decision fusion"):
        open_fuser(bundle, "weighted", "fp32", "onnx")
