"""Face network: residual blocks of 3x3 convolutions, batch normalisation and ReLU (He et al. 2016).

Input: grey crops float32 [B, 1, 48, 48] from moodring.features.face.crop. Outputs, in this order: embedding [B, 128],
official [B, 7] (FER2013 labels), ferplus [B, 7] (FER+ votes), usable [B, 1] (face or not). All but the embedding are logits.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from moodring.features.face.crop import normalize_crops
from moodring.labels import FACE_CLASSES
from moodring.types import F32, U8

EMBEDDING = 128
OUTPUTS = ("embedding", "official", "ferplus", "usable")


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Residual block: two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, 3, stride)
        self.second = convolution(outputs, outputs, 3)
        same_shape = inputs == outputs and stride == 1
        self.past = nn.Identity() if same_shape else convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.relu(self.first(x)))
        return torch.relu(y + self.past(x))


class FaceNet(nn.Module):
    """The face network. `width` is the number of channels at full resolution, `blocks` the number of blocks in each stage."""

    def __init__(self, width: int = 16, blocks: tuple[int, ...] = (2, 2, 1), dropout: float = 0.2) -> None:
        super().__init__()
        self.stem = convolution(1, width, 3)  # [B, w, 48, 48]
        layers: list[nn.Module] = []
        channels = width
        for stage, count in enumerate(blocks):  # [B, 2w, 24, 24], [B, 4w, 12, 12], [B, 8w, 6, 6]
            for index in range(count):
                outputs = width * 2 ** (stage + 1)
                layers.append(Block(channels, outputs, 2 if index == 0 else 1))
                channels = outputs
        self.trunk = nn.Sequential(*layers)
        self.project = nn.Linear(channels, EMBEDDING)
        self.dropout = nn.Dropout(dropout)
        self.official = nn.Linear(EMBEDDING, FACE_CLASSES)
        self.ferplus = nn.Linear(EMBEDDING, FACE_CLASSES)
        self.usable = nn.Linear(EMBEDDING, 1)

    def forward(self, crop: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.trunk(torch.relu(self.stem(crop)))  # [B, 8w, 6, 6]
        embedding = torch.relu(self.project(x.mean(dim=(2, 3))))  # [B, 128]
        features = self.dropout(embedding)
        return embedding, self.official(features), self.ferplus(features), self.usable(features)


@torch.no_grad()
def predict(model: nn.Module, faces: U8, batch: int = 256) -> dict[str, F32]:
    """Run the network on faces uint8 [N, 48, 48]; return its outputs by name, float32 [N, ...]."""
    pieces: list[list[F32]] = [[], [], [], []]
    for start in range(0, len(faces), batch):
        crops = torch.from_numpy(normalize_crops(faces[start : start + batch]))
        outputs = model(crops.contiguous(memory_format=torch.channels_last))
        for piece, output in zip(pieces, outputs, strict=True):
            piece.append(output.numpy())
    return {name: np.concatenate(piece) for name, piece in zip(OUTPUTS, pieces, strict=True)}
