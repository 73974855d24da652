"""One row of an analysis, and the columns of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moodring.types import BranchView, EmotionEvent, Modality, State

Value = str | float | int | bool | None


@dataclass(frozen=True, slots=True)
class Row:
    """What moodring publishes at one time of a recording (five rows a second), or for one face of an image.

    `state` is ok, or names what is missing: no_signal, no_face, no_speech. Then `label`, `confidence` and `probabilities` are
    None. Otherwise they are those of face and voice together, after fusion and smoothing, and `modalities` names what was used.
    `face` and `speech` are the outputs of each branch alone; None without one. `face_id`, `box_xywh` (pixels of the frame) and
    `quality` in [0, 1] describe the primary face, `faces` is the number of faces in the frame. `time_s` counts from the start
    of the recording.
    """

    time_s: float
    state: State
    label: str | None = None
    confidence: float | None = None
    probabilities: dict[str, float] | None = None
    modalities: tuple[Modality, ...] = ()
    face_id: int | None = None
    box_xywh: tuple[int, int, int, int] | None = None
    quality: float | None = None
    face: BranchView | None = None
    speech: BranchView | None = None
    faces: int = 0

    @property
    def usable(self) -> float | None:
        """The probability in [0, 1] that the face is a face, by the face network; None without its output."""
        return None if self.face is None else self.face.usable

    @property
    def fused(self) -> bool:
        """Whether face and voice were used together."""
        return len(self.modalities) == 2

    def to_dict(self, labels: Sequence[str]) -> dict[str, Value]:
        """Return the row as a flat dictionary, the same keys for every row (docs/library.md, Columns)."""
        x, y, w, h = self.box_xywh or (None, None, None, None)
        face, speech = self.face, self.speech
        return {
            "time_s": self.time_s,
            "state": self.state,
            "label": self.label,
            "confidence": self.confidence,
            "fused": self.fused,
            **_by_label("p", self.probabilities, labels),
            "faces": self.faces,
            "face_id": self.face_id,
            "face_x": x,
            "face_y": y,
            "face_w": w,
            "face_h": h,
            "quality": self.quality,
            "usable": self.usable,
            "face_label": face.label if face else None,
            **_by_label("face_p", face.probabilities if face else None, labels),
            "speech_label": speech.label if speech else None,
            "speech_usable": speech.usable if speech else None,
            **_by_label("speech_p", speech.probabilities if speech else None, labels),
        }


def columns(labels: Sequence[str]) -> dict[str, type]:
    """Return the columns of a table of rows with the type of their values. All but a few can be None."""
    return {
        "time_s": float,
        "state": str,
        "label": str,
        "confidence": float,
        "fused": bool,
        **{f"p_{label}": float for label in labels},
        **dict.fromkeys(("faces", "face_id", "face_x", "face_y", "face_w", "face_h"), int),
        "quality": float,
        "usable": float,
        "face_label": str,
        **{f"face_p_{label}": float for label in labels},
        "speech_label": str,
        "speech_usable": float,
        **{f"speech_p_{label}": float for label in labels},
    }


def _by_label(prefix: str, probabilities: Mapping[str, float] | None, labels: Sequence[str]) -> dict[str, Value]:
    return {f"{prefix}_{label}": None if probabilities is None else probabilities.get(label) for label in labels}


def row_of(event: EmotionEvent, time_s: float) -> Row:
    """Return the row of an event."""
    face = event.faces[0] if event.faces else None
    return Row(
        time_s=time_s,
        state=event.state,
        label=event.label,
        confidence=event.confidence,
        probabilities=event.probabilities,
        modalities=event.modalities,
        face_id=face.id if face else None,
        box_xywh=face.box_xywh if face else None,
        quality=face.quality if face else None,
        face=event.face,
        speech=event.speech,
        faces=len(event.faces),
    )
