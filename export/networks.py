"""Trained networks to export: PyTorch modules with the names and shapes of their inputs and outputs, from checkpoints."""

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
    """One trained network. `inputs` and `outputs` map float32 tensor names to shapes, in calling order.

    `card` is the document of its checkpoint.
    """

    kind: str
    module: nn.Module
    inputs: Shapes
    outputs: Shapes
    card: dict[str, Any]

    def zeros(self) -> tuple[torch.Tensor, ...]:
        """Return zero tensors with the shapes of the inputs."""
        return tuple(torch.zeros(shape) for shape in self.inputs.values())


def load_network(checkpoints: Path, kind: str, spec: PreprocessSpec) -> Network:
    """Load the face, speech or fusion network of a checkpoint folder.

    Raises DataError if the checkpoint is missing or does not match its card, ExportError if it was trained with other
    preprocessing than `spec`.
    """
    card = dict(read_card(checkpoints, kind))
    if card["spec_hash"] != spec.hash_for(kind):
        raise ExportError(f"{kind}: trained with other preprocessing than this version implements; train it again")
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
        module, (inputs, outputs) = fusion_net, fusion_interface(fusion_net)
    module = load_weights(checkpoints, kind, module)
    if "usable_line" in card:
        with torch.no_grad():
            # After this shift the threshold of `usable` is 0.5 for every reader of the bundle.
            module.get_parameter("usable.bias").sub_(card["usable_line"])
    return Network(kind, module, inputs, outputs, card)


def fusion_interface(net: fusion.FusionNet) -> tuple[Shapes, Shapes]:
    """Return the names and shapes of the inputs and of the outputs of a fusion network."""
    face_shape, speech_shape = (BATCH, fusion.EMBEDDING), (BATCH, net.voice.in_features)
    inputs: Shapes = {"face_embedding": face_shape, "speech_embedding": speech_shape, "presence": (BATCH, 2)}
    return inputs, dict.fromkeys(fusion.OUTPUTS, (BATCH, CLASSES))


def load_networks(checkpoints: Path, spec: PreprocessSpec) -> dict[str, Network]:
    """Load the face, speech and fusion networks of a checkpoint folder.

    Raises DataError and ExportError as `load_network` does, and ExportError if the fusion network was trained with other
    branches.
    """
    networks = {kind: load_network(checkpoints, kind, spec) for kind in ("face", "speech", "fusion")}
    for branch, digest in networks["fusion"].card["branches"].items():
        if digest != networks[branch].card["sha256"]:
            raise ExportError(
                f"{checkpoints}: the fusion network was trained with another {branch} network than the one in this folder; "
                "train it again"
            )
    return networks
