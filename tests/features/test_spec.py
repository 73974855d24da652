"""Preprocessing spec and labels: the conventions shared by bundles, events and training must not change unnoticed."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.errors import BundleError
from moodring.features.audio.window import SpeechFrontEnd
from moodring.features.spec import FaceSpec, MfccSpec, PreprocessSpec, SpeechSpec
from moodring.labels import CALM, FER2013, FERPLUS, FERPLUS_COLUMNS, FOLDER_NAMES, LABELS, NEUTRAL, RAVDESS

# Changes only with `PreprocessSpec.version` or a default. Earlier bundles are then rejected.
HASH = "6da657a3560fcba1f90bfa82b66521c58720ceee38bf9e341108cab6c0e04007"


def test_hash_of_the_default_spec_is_unchanged():
    assert PreprocessSpec().hash() == HASH


def test_spec_round_trips_through_json():
    spec = PreprocessSpec(speech=SpeechSpec(mfcc=MfccSpec(cepstra=20), hop_frames=25), face=FaceSpec(margin=0.1))
    restored = PreprocessSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert restored == spec
    assert restored.hash() == spec.hash() != HASH


def leaf_paths(part: dict, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in part.items():
        found += leaf_paths(value, (*path, key)) if isinstance(value, dict) else [(*path, key)]
    return found


FIELDS = leaf_paths(PreprocessSpec().to_dict())


@given(path=st.sampled_from(FIELDS), value=st.one_of(st.integers(-5, 600), st.floats(0, 1), st.text(max_size=3), st.none()))
def test_any_change_gives_another_hash_or_is_rejected(path: tuple[str, ...], value: object):
    document = copy.deepcopy(PreprocessSpec().to_dict())
    part = document
    for key in path[:-1]:
        part = part[key]
    same = repr(part[path[-1]]) == repr(value)
    part[path[-1]] = value
    try:
        spec = PreprocessSpec.from_dict(document)
    except BundleError:
        assert not same
    else:
        assert same or spec.hash() != HASH
        SpeechFrontEnd(spec.speech)  # an accepted spec can be computed


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_frames": 0}, "min_frames"),
        ({"min_frames": 301}, "min_frames"),
        ({"hop_frames": 0}, "hop_frames"),
        ({"noise_reduction": "rnnoise"}, "none or wiener"),
        ({"normalisation": "cmvn"}, "must be level"),
        ({"padding": "zero"}, "must be repeat"),
        ({"deltas": 3}, "0, 1 or 2"),
        ({"deltas": -1}, "0, 1 or 2"),
    ],
)
def test_invalid_speech_spec_is_rejected(values: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        SpeechSpec(**values)


@pytest.mark.parametrize(
    ("spec", "columns"),
    [
        (SpeechSpec(pitch=False), 40),
        (SpeechSpec(), 42),
        (SpeechSpec(deltas=2), 122),
        (SpeechSpec(mfcc=MfccSpec(cepstra=13), deltas=1, pitch=False), 26),
        (SpeechSpec(mfcc=MfccSpec(cepstra=13, output="log_mel"), deltas=0), 42),
    ],
)
def test_columns_counts_features_deltas_and_pitch(spec: SpeechSpec, columns: int):
    assert spec.columns == columns


def test_another_sample_rate_is_rejected():
    mfcc = MfccSpec(rate_hz=8000, high_hz=4000.0)
    with pytest.raises(ValueError, match=r"speech\.mfcc\.rate_hz must be 16000 Hz, .* got 8000 Hz"):
        PreprocessSpec(speech=SpeechSpec(mfcc=mfcc))


@pytest.mark.parametrize("document", [None, [], {}, {"version": 1}, {"version": 1, "speech": {}, "face": {}}, "spec", 3])
def test_malformed_document_is_rejected(document: object):
    with pytest.raises(BundleError, match="not one this runtime implements"):
        PreprocessSpec.from_dict(document)


def test_another_version_is_rejected():
    with pytest.raises(ValueError, match="version 1, not 2"):
        dataclasses.replace(PreprocessSpec(), version=2)


def test_labels_and_their_order_are_unchanged():
    assert LABELS == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "calm")
    assert (LABELS[NEUTRAL], LABELS[CALM]) == ("neutral", "calm")


def test_data_set_codes_map_to_the_published_classes():
    assert [LABELS[i] for i in FER2013] == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    assert {code: LABELS[i] for code, i in RAVDESS.items()} == {
        "01": "neutral", "02": "calm", "03": "happy", "04": "sad", "05": "angry", "06": "fear", "07": "disgust",
        "08": "surprise",
    }  # fmt: skip
    ferplus = {c: None if i is None else LABELS[i] for c, i in zip(FERPLUS_COLUMNS, FERPLUS, strict=True)}
    assert ferplus == {
        "neutral": "neutral", "happiness": "happy", "surprise": "surprise", "sadness": "sad", "anger": "angry",
        "disgust": "disgust", "fear": "fear", "contempt": None, "unknown": None, "NF": None,
    }  # fmt: skip
    assert {name for name, i in FOLDER_NAMES.items() if LABELS[i] == "fear"} == {"fear", "fearful"}
