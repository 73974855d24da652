"""The one vocabulary of eight expression classes and how each data set's codes map to it.

Every array over classes, everywhere in moodring, is in the order of `LABELS`. The first seven are FER2013's order; the
face branch never answers calm.
"""

from __future__ import annotations

from typing import Final

LABELS: Final[tuple[str, ...]] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "calm")
INDEX: Final[dict[str, int]] = {label: index for index, label in enumerate(LABELS)}
CLASSES: Final[int] = len(LABELS)
FACE_CLASSES: Final[int] = 7  # without calm
NEUTRAL: Final[int] = INDEX["neutral"]
CALM: Final[int] = INDEX["calm"]

# FER2013's `emotion` column is already an index into LABELS.
FER2013: Final[tuple[int, ...]] = tuple(range(FACE_CLASSES))

# FER+'s vote columns, in file order, as indices into LABELS; None is no class of ours (contempt, unknown, not a face).
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

# Folder names found in the wild (FER2013 as folders, CK+, TESS, one's own) -> index into LABELS.
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
