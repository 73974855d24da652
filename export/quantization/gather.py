"""What a network is quantised by, and what its int8 form is judged by: training inputs, and validation inputs with labels.

Neither is a test part: pictures come from the two halves of FER2013's Training split, voices from the actors that the speech
network's card names for training and validation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moodring.errors import ExportError
from moodring.evaluation.data.readers import list_ravdess, read_fer2013, read_sound
from moodring.export.networks import Network
from moodring.export.quantization.data import FACE_HEAD, MIN_CALIBRATION_SAMPLES, Inputs, QuantizationData
from moodring.export.verify import run_torch
from moodring.features.face.crop import normalize_crops
from moodring.features.spec import PreprocessSpec
from moodring.labels import CALM, NEUTRAL
from moodring.train.data.faces import find_fer2013
from moodring.train.data.splits import image_hashes, split_images
from moodring.train.data.voices import clip_windows, find_ravdess

I64 = NDArray[np.int64]

VALIDATION_IMAGES = 1500
VALIDATION_CLIPS = 120


def gather(networks: dict[str, Network], data_dir: Path, spec: PreprocessSpec, samples: int) -> dict[str, QuantizationData]:
    """Read what face, speech and fusion are quantised and judged by; `samples` pictures, and as many windows or more."""
    if samples < MIN_CALIBRATION_SAMPLES:
        raise ExportError(
            f"{samples} calibration samples are too few to know any range; give at least {MIN_CALIBRATION_SAMPLES}"
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
    windows: list[Inputs] = []
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
    """Pair the embeddings of pictures and voices by class, calm with neutral; of three in training, two lack a side."""
    presence_masks = np.array([[[1, 1]], [[1, 0]], [[0, 1]]], np.float32)

    def fusion_inputs(faces: Inputs, voices: Inputs) -> Inputs:
        embeddings = [
            [run_torch(networks[kind], one)["embedding"] for one in inputs]
            for kind, inputs in (("face", faces), ("speech", voices))
        ]
        return [
            {"face_embedding": face_embedding, "speech_embedding": speech_embedding, "presence": presence_masks[i % 3]}
            for i, (face_embedding, speech_embedding) in enumerate(zip(*embeddings, strict=True))
        ]

    count = min(len(face.calibration), len(speech.calibration))
    images_by_class = [np.flatnonzero(face.labels == label) for label in range(CALM)]
    candidates = [images_by_class[NEUTRAL if label == CALM else label] for label in speech.labels]
    pairs = [(window, rows[window % len(rows)]) for window, rows in enumerate(candidates) if len(rows)]
    validation = fusion_inputs(
        [face.validation[image] for _, image in pairs], [speech.validation[window] for window, _ in pairs]
    )
    both = [one | {"presence": presence_masks[0]} for one in validation]
    labels = speech.labels[[window for window, _ in pairs]]
    return QuantizationData(fusion_inputs(face.calibration[:count], speech.calibration[:count]), both, labels, FACE_HEAD)


def _sample_evenly(rows: I64, count: int) -> I64:
    """Return `count` of the rows, or all, at even distances."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64)]
