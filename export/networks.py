"""The networks to export, as their checkpoints hold them: module, named inputs and outputs with their shapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from moodring.errors import ExportError
from moodring.features.spec import PreprocessSpec
from moodring.labels import CLASSES, FACE_CLASSES
from moodring.train.models import face, fusion, speech
from moodring.train.run_folder import load_weights, read_card

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


def load_network(checkpoints: Path, kind: str, spec: PreprocessSpec) -> Network:
    """Load one network; raise DataError on a checkpoint that is absent or does not fit its card."""
    card = dict(read_card(checkpoints, kind))
    if card["spec_hash"] != spec.hash_for(kind):
        raise ExportError(f"{kind} was trained on other preprocessing than this version computes; train it again")
    size = spec.face.size
    module: nn.Module
    inputs: Shapes
    outputs: Shapes
    if kind == "face":
        module, inputs = face.FaceNet(**card["network"]), {"crop": (BATCH, 1, size, size)}
        heads = {"official": (BATCH, FACE_CLASSES), "ferplus": (BATCH, FACE_CLASSES)}
        outputs = {"embedding": (BATCH, face.EMBEDDING), **heads, "usable": (BATCH, 1)}
    elif kind == "speech":
        speech_net = speech.SpeechNet(spec.speech.columns, **card["network"])
        module, embedding = speech_net, (BATCH, speech_net.logits.in_features)
        inputs = {"window": (BATCH, spec.speech.window_frames, spec.speech.columns)}
        outputs = {"embedding": embedding, "logits": (BATCH, CLASSES), "usable": (BATCH, 1)}
    else:
        fusion_net = fusion.FusionNet(**card["network"])
        module, face_shape, speech_shape = fusion_net, (BATCH, fusion.EMBEDDING), (BATCH, fusion_net.voice.in_features)
        inputs = {"face_embedding": face_shape, "speech_embedding": speech_shape, "presence": (BATCH, 2)}
        outputs = dict.fromkeys(fusion.OUTPUTS, (BATCH, CLASSES))
    module = load_weights(checkpoints, kind, module)
    if "usable_line" in card:
        with torch.no_grad():
            # So that a half is the line, whoever reads the bundle.
            module.get_parameter("usable.bias").sub_(card["usable_line"])
    return Network(kind, module, inputs, outputs, card)


def load_networks(checkpoints: Path, spec: PreprocessSpec) -> dict[str, Network]:
    """Load face, speech and fusion; raise ExportError where the fusion was trained on other branches than these."""
    networks = {kind: load_network(checkpoints, kind, spec) for kind in ("face", "speech", "fusion")}
    for branch, digest in networks["fusion"].card["branches"].items():
        if digest != networks[branch].card["sha256"]:
            raise ExportError(f"the fusion was trained on another {branch} network than the one beside it; train it again")
    return networks
