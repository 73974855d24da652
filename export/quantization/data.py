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
MIN_CALIBRATION_SAMPLES = 16


@dataclass(frozen=True, slots=True)
class QuantizationData:
    """Inputs of one network, each as it takes them: `training` sets the ranges, `judged` with its `labels` [N] judges."""

    calibration: Inputs
    validation: Inputs
    labels: I64
    head: str = "logits"  # the output by whose first label accuracy is judged


def check_quantization_data(kind: str, quantization_data: QuantizationData, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ExportError unless there is enough to know ranges by, and all of it is as the network takes it."""
    if len(quantization_data.calibration) < MIN_CALIBRATION_SAMPLES:
        raise ExportError(
            f"{kind}: {len(quantization_data.calibration)} calibration samples are too few to know any range; give at least {MIN_CALIBRATION_SAMPLES}"
        )
    if not quantization_data.validation or len(quantization_data.validation) != len(quantization_data.labels):
        raise ExportError(
            f"{kind}: {len(quantization_data.validation)} inputs to judge by have {len(quantization_data.labels)} labels; give one each"
        )
    for feed in (*quantization_data.calibration, *quantization_data.validation):
        found = {name: value.shape for name, value in feed.items()}
        if found != dict(shapes) or any(value.dtype != np.float32 for value in feed.values()):
            raise ExportError(f"{kind}: a calibration sample is {found}, but the network takes float32 {dict(shapes)}")
        if not all(np.isfinite(value).all() for value in feed.values()):
            raise ExportError(f"{kind}: a calibration sample holds what is no finite number")
