"""What a network is quantised by and judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moodring.errors import ExportError

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Inputs = list[dict[str, F32]]  # each as the network takes it: batch 1

FACE_HEAD = "official"  # of moodring's own: FER2013's label is what its pictures are judged by
LEAST_SAMPLES = 16


@dataclass(frozen=True, slots=True)
class Material:
    """Inputs of one network, each as it takes them: `training` sets the ranges, `judged` with its `labels` [N] judges."""

    training: Inputs
    judged: Inputs
    labels: I64
    head: str = "logits"  # the output by whose first label accuracy is judged


def check(kind: str, material: Material, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ExportError unless there is enough to know ranges by, and all of it is as the network takes it."""
    if len(material.training) < LEAST_SAMPLES:
        raise ExportError(
            f"{kind}: {len(material.training)} calibration samples are too few to know any range; give at least {LEAST_SAMPLES}"
        )
    if not material.judged or len(material.judged) != len(material.labels):
        raise ExportError(
            f"{kind}: {len(material.judged)} inputs to judge by have {len(material.labels)} labels; give one each"
        )
    for one in (*material.training, *material.judged):
        found = {name: value.shape for name, value in one.items()}
        if found != dict(shapes) or any(value.dtype != np.float32 for value in one.values()):
            raise ExportError(f"{kind}: a calibration sample is {found}, but the network takes float32 {dict(shapes)}")
        if not all(np.isfinite(value).all() for value in one.values()):
            raise ExportError(f"{kind}: a calibration sample holds what is no finite number")
