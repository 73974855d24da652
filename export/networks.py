"""The networks to export, as their checkpoints hold them: module, named inputs and outputs with their shapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge.errors import ExportError
from edge.features.spec import PreprocessSpec
from edge.labels import CLASSES, FACE_CLASSES
from train.models import face, fusion, speech
from train.report import load_weights, read_card

Shapes = dict[str, tuple[int, ...]]

BATCH = 1


@dataclass(frozen=True)
class Network:
    """One trained network: `inputs` and `outputs` name float32 tensors in calling order; `card` is its checkpoint's."""

    kind: str
    module: nn.Module
    inputs: Shapes
    outputs: Shapes
    card: dict[str, Any]

    def zeros(self) -> tuple[torch.Tensor, ...]:
        """Return arguments of the right shapes."""
        return tuple(torch.zeros(shape) for shape in self.inputs.values())


def _check_belong(cards: dict[str, dict[str, Any]], spec: PreprocessSpec) -> None:
    """Raise ExportError unless the checkpoints were trained on this preprocessing, and the fusion on these branches."""
    for kind, card in cards.items():
        if card["spec_hash"] != spec.hash_for(kind):
            raise ExportError(f"{kind} was trained on other preprocessing than this version computes; train it again")
    for branch, digest in cards["fusion"]["branches"].items():
        if digest != cards[branch]["sha256"]:
            raise ExportError(f"the fusion was trained on another {branch} network than the one beside it; train it again")


def load_networks(checkpoints: Path, spec: PreprocessSpec) -> dict[str, Network]:
    """Load face, speech and fusion; raise DataError on a checkpoint that is absent or does not fit its card."""
    size, window = spec.face.size, (BATCH, spec.speech.window_frames, spec.speech.columns)
    cards = {kind: dict(read_card(checkpoints, kind)) for kind in ("face", "speech", "fusion")}
    _check_belong(cards, spec)
    embedding = (BATCH, fusion.EMBEDDING)
    modules = {
        "face": face.FaceNet(**cards["face"]["network"]),
        "speech": speech.SpeechNet(cepstra=spec.speech.columns, **cards["speech"]["network"]),
        "fusion": fusion.FusionNet(**cards["fusion"]["network"]),
    }
    inputs: dict[str, Shapes] = {
        "face": {"crop": (BATCH, 1, size, size)},
        "speech": {"window": window},
        "fusion": {"face_embedding": embedding, "speech_embedding": embedding, "presence": (BATCH, 2)},
    }
    outputs: dict[str, Shapes] = {
        "face": {
            "embedding": embedding,
            "official": (BATCH, FACE_CLASSES),
            "ferplus": (BATCH, FACE_CLASSES),
            "usable": (BATCH, 1),
        },
        "speech": {"embedding": embedding, "logits": (BATCH, CLASSES), "usable": (BATCH, 1)},
        "fusion": {"logits": (BATCH, CLASSES)},
    }
    return {
        kind: Network(kind, load_weights(checkpoints, kind, modules[kind]), inputs[kind], outputs[kind], cards[kind])
        for kind in cards
    }
