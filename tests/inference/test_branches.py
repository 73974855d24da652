"""Branches: calibrated probabilities in label order from the outputs of a network."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.features.audio.window import make_window_input
from moodring.inference.branches import FaceBranch, SpeechBranch, sigmoid, softmax
from moodring.inference.bundle import ModelInfo, load
from moodring.labels import CALM, CLASSES, FACE_CLASSES
from moodring.types import FaceCrop, FeatureWindow
from tests.support.signals import face_frame


class FixedModel:
    """Returns the same outputs for every input, and stores the last inputs."""

    def __init__(self, **outputs: list[float]) -> None:
        self._outputs = {name: np.array([values], np.float32) for name, values in outputs.items()}

    def run(self, inputs):
        self.inputs = inputs
        return self._outputs


def info(**temperature: float) -> ModelInfo:
    return ModelInfo({}, {}, temperature, {}, published_head="ferplus")


logits = st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=8)


@given(values=logits, temperature=st.floats(0.05, 20))
def test_softmax_returns_a_distribution_in_the_order_of_the_logits(values: list[float], temperature: float):
    p = softmax(np.array(values, np.float32), temperature)
    assert p.dtype == np.float32
    assert p.shape == (CLASSES,)
    assert p.sum() == pytest.approx(1, abs=1e-5)
    assert (p >= 0).all()
    assert not p[len(values) :].any()
    assert p[np.argmax(values)] == p.max()


def test_softmax_with_a_higher_temperature_lowers_the_confidence_of_the_same_class():
    values = np.array([1.0, 2.0, 3.0], np.float32)
    sharp, flat = softmax(values, 0.5), softmax(values, 2.0)
    assert sharp.argmax() == flat.argmax() == 2
    assert sharp[2] > flat[2]
    np.testing.assert_allclose(softmax(values, 1.0)[:3], np.exp(values) / np.exp(values).sum(), rtol=1e-5)


def test_softmax_of_rows_equals_softmax_of_each_row():
    rows = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    np.testing.assert_allclose(softmax(rows), np.stack([softmax(row) for row in rows]))


@given(st.floats(allow_nan=False))
def test_sigmoid_is_between_0_and_1_for_any_logit(value: float):
    assert 0.0 <= sigmoid(value) <= 1.0


def test_sigmoid_of_zero_is_one_half():
    assert sigmoid(0.0) == 0.5
    assert sigmoid(2.0) == pytest.approx(0.880797, abs=1e-6)


def face_model() -> FixedModel:
    return FixedModel(official=[9, 0, 0, 0, 0, 0, 0], ferplus=[0, 0, 0, 4, 0, 0, 0], embedding=[1, 2], usable=[2.0])


def crop() -> FaceCrop:
    return FaceCrop(face_frame(0)[:48, :48].copy(), 123, 0.7)


def test_face_branch_uses_the_published_head_and_never_outputs_calm():
    output = FaceBranch(face_model(), info(official=1.0, ferplus=1.0)).run(crop())
    assert output.modality == "face"
    assert output.probabilities.argmax() == 3
    assert output.probabilities[CALM] == 0.0
    assert (output.capture_time_ns, output.quality) == (123, 0.7)
    assert output.usable == pytest.approx(0.880797, abs=1e-6)
    np.testing.assert_array_equal(output.embedding, [1, 2])


def test_face_branch_can_use_the_other_head_with_its_own_temperature():
    official = FaceBranch(face_model(), info(official=3.0, ferplus=1.0), "official").run(crop())
    assert official.probabilities.argmax() == 0
    np.testing.assert_allclose(official.probabilities, softmax(np.array([9, 0, 0, 0, 0, 0, 0], np.float32), 3.0))


def test_face_branch_passes_a_normalised_crop_to_its_network():
    model = face_model()
    FaceBranch(model, info(official=1.0, ferplus=1.0)).run(crop())
    assert model.inputs["crop"].shape == (1, 1, 48, 48)
    assert abs(model.inputs["crop"].mean()) < 1e-4


def test_speech_branch_outputs_all_eight_classes():
    model = FixedModel(logits=[0, 0, 0, 0, 0, 0, 0, 5], embedding=[3], usable=[-2.0])
    window = FeatureWindow(np.zeros((300, 42), np.float32), 77, 0.5)
    output = SpeechBranch(model, info(logits=1.0)).run(window)
    assert output.modality == "speech"
    assert output.probabilities.argmax() == CALM
    assert output.capture_time_ns == 77
    assert output.usable == pytest.approx(0.119203, abs=1e-6)
    assert output.quality == 0.5  # half of the window is speech
    assert model.inputs["window"].shape == (1, 300, 42)


def test_branches_with_the_networks_of_a_bundle_are_deterministic(tiny_bundle):
    bundle = load(tiny_bundle)
    face = FaceBranch(bundle.open("face"), bundle.models["face"])
    speech = SpeechBranch(bundle.open("speech"), bundle.models["speech"])
    cepstra = np.random.default_rng(0).normal(size=(120, 42)).astype(np.float32)
    window = FeatureWindow(make_window_input(cepstra, bundle.spec.speech), 0, 1.0)
    for branch, item in ((face, crop()), (speech, window)):
        first, second = branch.run(item), branch.run(item)
        np.testing.assert_array_equal(first.probabilities, second.probabilities)
        assert first.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert np.count_nonzero(face.run(crop()).probabilities) == FACE_CLASSES
