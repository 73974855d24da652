"""The eight expression classes, and the mapping of each data set's codes to them.

Every array over classes is in the order of `LABELS`. The first seven are in FER2013's order. The face branch has no class calm.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from moodring.errors import ConfigError

LABELS: Final[tuple[str, ...]] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "calm")
INDEX: Final[dict[str, int]] = {label: index for index, label in enumerate(LABELS)}
CLASSES: Final[int] = len(LABELS)
FACE_CLASSES: Final[int] = 7  # without calm
NEUTRAL: Final[int] = INDEX["neutral"]
CALM: Final[int] = INDEX["calm"]

# FER2013's `emotion` column is already an index into LABELS.
FER2013: Final[tuple[int, ...]] = tuple(range(FACE_CLASSES))

# Vote columns of FER+ in file order, as indices into LABELS; None: no such class here (contempt, unknown, not a face).
FERPLUS_COLUMNS: Final[tuple[str, ...]] = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF",
)  # fmt: skip
FERPLUS: Final[tuple[int | None, ...]] = tuple(
    INDEX[label] if label else None
    for label in ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", None, None, None)
)

# The emotion field of a RAVDESS file name, 03-01-EE-II-SS-RR-AA.
RAVDESS: Final[dict[str, int]] = {
    "01": INDEX["neutral"],
    "02": INDEX["calm"],
    "03": INDEX["happy"],
    "04": INDEX["sad"],
    "05": INDEX["angry"],
    "06": INDEX["fear"],
    "07": INDEX["disgust"],
    "08": INDEX["surprise"],
}

# Folder names of common data sets (FER2013 as folders, CK+, TESS) -> index into LABELS.
FOLDER_NAMES: Final[dict[str, int]] = {
    **INDEX,
    "anger": INDEX["angry"],
    "disgusted": INDEX["disgust"],
    "fearful": INDEX["fear"],
    "happiness": INDEX["happy"],
    "sadness": INDEX["sad"],
    "surprised": INDEX["surprise"],
    "ps": INDEX["surprise"],
}

# Names of the classes in the labels of speech corpora -> index into LABELS: the folder names, and those of other corpora.
SPEECH_NAMES: Final[dict[str, int]] = {
    **FOLDER_NAMES,
    "ang": INDEX["angry"],
    "dis": INDEX["disgust"],
    "fea": INDEX["fear"],
    "scared": INDEX["fear"],
    "afraid": INDEX["fear"],
    "hap": INDEX["happy"],
    "joy": INDEX["happy"],
    "joyful": INDEX["happy"],
    "sur": INDEX["surprise"],
    "pleasant surprise": INDEX["surprise"],
    "pleasantly surprised": INDEX["surprise"],
    "neu": INDEX["neutral"],
    "neutrality": INDEX["neutral"],
    "cal": INDEX["calm"],
    "calmness": INDEX["calm"],
}


def speech_label(text: str) -> str:
    """Return the label of LABELS that a speech corpus names, else the name itself in lower case: a class of its own."""
    name = " ".join(text.lower().replace("_", " ").replace("-", " ").split())
    return LABELS[SPEECH_NAMES[name]] if name in SPEECH_NAMES else name


class EventLabels:
    """The labels of published events: those of a bundle, with calm added to neutral where `merge_calm` is set.

    `names` are in the order of the probabilities. Raises ConfigError where `merge_calm` is set and a label is missing.
    """

    def __init__(self, labels: tuple[str, ...], *, merge_calm: bool, bundle: str) -> None:
        if merge_calm and not {"calm", "neutral"} <= set(labels):
            raise ConfigError(
                f"labels.merge_calm: bundle {bundle} does not have both labels, calm and neutral; set it to false"
            )
        self._calm = labels.index("calm") if merge_calm else None
        self.names = tuple(label for label in labels if not (merge_calm and label == "calm"))

    def fold(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities in the order of `names`: float32 [n] -> [n] or [n - 1]."""
        if self._calm is None:
            return probabilities
        merged: NDArray[np.float32] = np.delete(probabilities, self._calm)
        merged[self.names.index("neutral")] += probabilities[self._calm]
        return merged

    def by_name(self, probabilities: NDArray[np.float32]) -> dict[str, float]:
        """Return probabilities, float [n], by label."""
        return dict(zip(self.names, np.asarray(probabilities, np.float64).tolist(), strict=True))
