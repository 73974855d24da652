"""Real inputs of moodring's networks: for the comparison of an export with its original, and to quantise and validate int8.

None come from a test split. Images for calibration and validation come from the two parts of FER2013's Training split, clips
from the actors that the card of the speech network lists for training and validation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moodring.errors import ExportError
from moodring.evaluation.data.readers import list_ravdess, read_fer2013, read_sound
from moodring.export.networks import Network
from moodring.export.quantization.data import FACE_HEAD, I64, MIN_CALIBRATION_SAMPLES, Feed, Inputs, QuantizationData
from moodring.export.verify import run_torch
from moodring.features.face.crop import normalize_crops
from moodring.features.spec import PreprocessSpec
from moodring.labels import CALM, NEUTRAL
from moodring.train.data.faces import find_fer2013
from moodring.train.data.splits import image_hashes, split_images
from moodring.train.data.voices import clip_windows, find_ravdess

VERIFICATION_IMAGES = 128
VERIFICATION_CLIPS = 32
VALIDATION_IMAGES = 1500
VALIDATION_CLIPS = 120
PRESENCE_MASKS = np.array([[[1, 1]], [[1, 0]], [[0, 1]]], np.float32)  # both branches, only face, only speech


def real_inputs(networks: dict[str, Network], data_dir: Path, spec: PreprocessSpec) -> dict[str, Inputs]:
    """Read inputs to compare each network with its original: images and clips spread evenly over their data sets.

    Fusion gets the embeddings of both, with alternating presence masks.
    """
    fer = read_fer2013(find_fer2013(data_dir)[0])
    rows = np.linspace(0, int((fer.usage == "Training").sum()) - 1, VERIFICATION_IMAGES).astype(np.int64)
    crops = normalize_crops(fer.faces[rows])
    clips = list_ravdess(find_ravdess(data_dir))
    chosen = _sample_evenly(np.arange(len(clips)), VERIFICATION_CLIPS)
    windows = np.concatenate([clip_windows(read_sound(clips[row].path), spec.speech) for row in chosen])
    face: Inputs = [{"crop": crop[None]} for crop in crops]
    speech: Inputs = [{"window": window[None]} for window in windows]
    count = min(len(face), len(speech))
    return {"face": face, "speech": speech, "fusion": _fusion_inputs(networks, face[:count], speech[:count])}


def gather(networks: dict[str, Network], data_dir: Path, spec: PreprocessSpec, samples: int) -> dict[str, QuantizationData]:
    """Read calibration and validation data of face, speech and fusion; `samples` is the number of calibration images.

    A quarter as many clips give the calibration windows. Raises ExportError if `samples` is too small, DataError if a data set
    is missing or damaged.
    """
    if samples < MIN_CALIBRATION_SAMPLES:
        raise ExportError(
            f"{samples} calibration samples are too few to set the ranges; give at least {MIN_CALIBRATION_SAMPLES}"
        )
    face = _face_data(data_dir, samples)
    speech = _speech_data(networks["speech"], data_dir, spec, samples)
    return {"face": face, "speech": speech, "fusion": _fusion_data(networks, face, speech)}


def _face_data(data_dir: Path, samples: int) -> QuantizationData:
    fer = read_fer2013(find_fer2013(data_dir)[0])
    split = split_images(image_hashes(fer.faces), fer.usage)
    calibration, validation = _sample_evenly(split.train, samples), _sample_evenly(split.validation, VALIDATION_IMAGES)
    crops = [[{"crop": crop[None]} for crop in normalize_crops(fer.faces[rows])] for rows in (calibration, validation)]
    return QuantizationData(crops[0], crops[1], fer.labels[validation], FACE_HEAD)


def _speech_data(network: Network, data_dir: Path, spec: PreprocessSpec, samples: int) -> QuantizationData:
    clips = list_ravdess(find_ravdess(data_dir))
    actors = network.card.get("actors", {})
    windows: list[list[Feed]] = []
    labels: list[int] = []
    for part, count in (("train", samples // 4), ("validation", VALIDATION_CLIPS)):
        chosen = [clip for clip in clips if clip.actor in actors.get(part, [clip.actor])]
        windows.append([])
        labels = []
        for row in _sample_evenly(np.arange(len(chosen)), count):
            pieces = clip_windows(read_sound(chosen[row].path), spec.speech)
            windows[-1] += [{"window": piece[None]} for piece in pieces]
            labels += [chosen[row].label] * len(pieces)
    return QuantizationData(windows[0], windows[1], np.array(labels, np.int64))


def _fusion_data(networks: dict[str, Network], face: QuantizationData, speech: QuantizationData) -> QuantizationData:
    """Pair embeddings of images and windows: any two for calibration, two of a class (calm with neutral) for validation.

    Calibration alternates the presence masks; validation has both branches present.
    """
    count = min(len(face.calibration), len(speech.calibration))
    calibration = _fusion_inputs(networks, face.calibration[:count], speech.calibration[:count])
    images_by_class = [np.flatnonzero(face.labels == label) for label in range(CALM)]
    candidates = [images_by_class[NEUTRAL if label == CALM else label] for label in speech.labels]
    pairs = [(window, rows[window % len(rows)]) for window, rows in enumerate(candidates) if len(rows)]
    pair_inputs = _fusion_inputs(
        networks, [face.validation[image] for _, image in pairs], [speech.validation[window] for window, _ in pairs]
    )
    validation = [feed | {"presence": PRESENCE_MASKS[0]} for feed in pair_inputs]
    return QuantizationData(calibration, validation, speech.labels[[window for window, _ in pairs]], FACE_HEAD)


def _fusion_inputs(networks: dict[str, Network], faces: Inputs, windows: Inputs) -> Inputs:
    """Return the inputs of the fusion network for as many crops as windows, with alternating presence masks."""
    face, speech = (
        [run_torch(networks[kind], feed)["embedding"] for feed in inputs]
        for kind, inputs in (("face", faces), ("speech", windows))
    )
    return [
        {"face_embedding": face_embedding, "speech_embedding": speech_embedding, "presence": PRESENCE_MASKS[i % 3]}
        for i, (face_embedding, speech_embedding) in enumerate(zip(face, speech, strict=True))
    ]


def _sample_evenly(rows: I64, count: int) -> I64:
    """Return `count` of the rows at even distances, or all if there are fewer."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64)]
