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
from moodring.export.quantization.data import FACE_HEAD, LEAST_SAMPLES, Inputs, Material
from moodring.export.verify import answer
from moodring.features.face.crop import normalise_crops
from moodring.features.spec import PreprocessSpec
from moodring.labels import CALM, NEUTRAL
from moodring.train.data.faces import find_fer2013
from moodring.train.data.splits import picture_hashes, split_pictures
from moodring.train.data.voices import clip_windows, find_ravdess

I64 = NDArray[np.int64]

JUDGED_PICTURES = 1500
JUDGED_CLIPS = 120


def gather(networks: dict[str, Network], data_dir: Path, spec: PreprocessSpec, samples: int) -> dict[str, Material]:
    """Read what face, speech and fusion are quantised and judged by; `samples` pictures, and as many windows or more."""
    if samples < LEAST_SAMPLES:
        raise ExportError(f"{samples} calibration samples are too few to know any range; give at least {LEAST_SAMPLES}")
    face = _pictures(data_dir, samples)
    speech = _voices(networks["speech"], data_dir, spec, samples)
    return {"face": face, "speech": speech, "fusion": _pairs(networks, face, speech)}


def _pictures(data_dir: Path, samples: int) -> Material:
    fer = read_fer2013(find_fer2013(data_dir)[0])
    split = split_pictures(picture_hashes(fer.faces), fer.usage)
    training, judged = _spread(split.train, samples), _spread(split.validation, JUDGED_PICTURES)
    crops = [[{"crop": crop[None]} for crop in normalise_crops(fer.faces[rows])] for rows in (training, judged)]
    return Material(crops[0], crops[1], fer.labels[judged], FACE_HEAD)


def _voices(network: Network, data_dir: Path, spec: PreprocessSpec, samples: int) -> Material:
    clips = list_ravdess(find_ravdess(data_dir))
    actors = network.card.get("actors", {})
    windows: list[Inputs] = []
    labels: list[int] = []
    for part, count in (("train", samples // 4), ("validation", JUDGED_CLIPS)):
        chosen = [clip for clip in clips if clip.actor in actors.get(part, [clip.actor])]
        windows.append([])
        labels = []
        for row in _spread(np.arange(len(chosen)), count):
            pieces = clip_windows(read_sound(chosen[row].path), spec.speech)
            windows[-1] += [{"window": piece[None]} for piece in pieces]
            labels += [chosen[row].label] * len(pieces)
    return Material(windows[0], windows[1], np.array(labels, np.int64))


def _pairs(networks: dict[str, Network], face: Material, speech: Material) -> Material:
    """Pair the embeddings of pictures and voices by class, calm with neutral; of three in training, two lack a side."""
    presences = np.array([[[1, 1]], [[1, 0]], [[0, 1]]], np.float32)

    def joined(faces: Inputs, voices: Inputs) -> Inputs:
        sides = [
            [answer(networks[kind], one)["embedding"] for one in inputs]
            for kind, inputs in (("face", faces), ("speech", voices))
        ]
        return [
            {"face_embedding": seen, "speech_embedding": heard, "presence": presences[i % 3]}
            for i, (seen, heard) in enumerate(zip(*sides, strict=True))
        ]

    count = min(len(face.training), len(speech.training))
    of_class = [np.flatnonzero(face.labels == label) for label in range(CALM)]
    partners = [of_class[NEUTRAL if label == CALM else label] for label in speech.labels]
    paired = [(voice, rows[voice % len(rows)]) for voice, rows in enumerate(partners) if len(rows)]
    judged = joined([face.judged[picture] for _, picture in paired], [speech.judged[voice] for voice, _ in paired])
    both = [one | {"presence": presences[0]} for one in judged]
    labels = speech.labels[[voice for voice, _ in paired]]
    return Material(joined(face.training[:count], speech.training[:count]), both, labels, FACE_HEAD)


def _spread(rows: I64, count: int) -> I64:
    """Return `count` of the rows, or all, at even distances."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64)]
