"""Calibration and validation data of one network, and the measures of what int8 costs on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moodring.errors import ExportError
from moodring.types import F32

I64 = NDArray[np.int64]
Feed = dict[str, F32]  # the inputs of one call by name, batch 1
Inputs = Sequence[Feed]

FACE_HEAD = "official"  # the output that is compared with FER2013's labels
MIN_CALIBRATION_SAMPLES = 16
PERCENTAGE_POINTS = 100.0  # percentage points in an accuracy of 1


@dataclass(frozen=True, slots=True)
class QuantizationData:
    """Inputs of one network: `calibration` sets the ranges, `validation` with its `labels` int64 [N] measures the accuracy.

    `head` names the output whose most likely class is compared with the labels.
    """

    calibration: Inputs
    validation: Inputs
    labels: I64
    head: str = "logits"


def same_label_share(some: F32, others: F32) -> float:
    """Return the share of rows of two arrays of scores [N, classes] with the same most likely class."""
    return float((some.argmax(axis=1) == others.argmax(axis=1)).mean())


def check_quantization_data(kind: str, quantization_data: QuantizationData, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check the amount, the shapes (`shapes` by input name), the dtype and the values of the data of one network.

    Raises ExportError if there are too few calibration samples, labels that do not match the validation inputs, or inputs that
    the network does not accept.
    """
    calibration, validation = quantization_data.calibration, quantization_data.validation
    if len(calibration) < MIN_CALIBRATION_SAMPLES:
        raise ExportError(
            f"{kind}: {len(calibration)} calibration samples are too few to set the ranges; give at least "
            f"{MIN_CALIBRATION_SAMPLES}"
        )
    if not validation or len(validation) != len(quantization_data.labels):
        raise ExportError(
            f"{kind}: {len(validation)} validation inputs have {len(quantization_data.labels)} labels; give one label per input"
        )
    for feed in (*calibration, *validation):
        found = {name: value.shape for name, value in feed.items()}
        if found != dict(shapes) or any(value.dtype != np.float32 for value in feed.values()):
            raise ExportError(
                f"{kind}: a calibration or validation input is {found}, but the network takes float32 {dict(shapes)}"
            )
        if not all(np.isfinite(value).all() for value in feed.values()):
            raise ExportError(f"{kind}: a calibration or validation input has values that are not finite; remove it")
