"""Feature fusion: both embeddings and who is present, to one answer.

Inputs: face_embedding [B, 128], speech_embedding [B, 128], presence [B, 2] in {0, 1} (face, speech); an absent embedding
counts as zeros. Output: logits [B, 8]. A linear way, which starts as the product of the two branches' own answers, and
beside it a small network that starts at nothing: training can only add what the branches alone do not know.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge.labels import CALM, CLASSES, FACE_CLASSES, NEUTRAL

EMBEDDING = 128
OUTPUTS = ("logits",)
CALM_NEEDS_VOICE = 12.0  # logits: without a voice nothing is calm


class FusionNet(nn.Module):
    def __init__(self, hidden: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        features = 2 * EMBEDDING + 3  # embeddings, presence of each, presence of both
        self.linear = nn.Linear(features, CLASSES)
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(features, hidden)
        self.correct = nn.Linear(hidden, CLASSES)
        nn.init.zeros_(self.correct.weight)
        nn.init.zeros_(self.correct.bias)

    def forward(self, face_embedding: Tensor, speech_embedding: Tensor, presence: Tensor) -> Tensor:
        face, speech = presence[:, 0:1], presence[:, 1:2]  # [B, 1] each
        features = torch.cat([face_embedding * face, speech_embedding * speech, presence, face * speech], dim=1)
        return self.linear(features) + self.correct(torch.relu(self.hidden(self.dropout(features))))

    @torch.no_grad()
    def start_from(self, face: nn.Linear, speech: nn.Linear, temperatures: tuple[float, float], prior: Tensor) -> None:
        """Begin as the product of both branches' calibrated answers, the face's class shares `prior` [7] divided out.

        The face's linear head knows seven classes: a calm voice goes with a neutral face, so calm takes neutral's row.
        """
        self.linear.weight.zero_()
        self.linear.bias.zero_()
        rows = [*range(FACE_CLASSES), NEUTRAL]  # the last is calm
        self.linear.weight[:, :EMBEDDING] = face.weight[rows] / temperatures[0]
        self.linear.weight[:, EMBEDDING : 2 * EMBEDDING] = speech.weight / temperatures[1]
        presence_face, presence_speech, both = (self.linear.weight[:, 2 * EMBEDDING + i] for i in range(3))
        presence_face.copy_(face.bias[rows] / temperatures[0])
        presence_speech.copy_(speech.bias / temperatures[1])
        presence_speech[CALM] += CALM_NEEDS_VOICE
        self.linear.bias[CALM] -= CALM_NEEDS_VOICE
        both.copy_(-torch.log(prior)[rows])
