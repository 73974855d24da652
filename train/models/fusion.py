"""Feature fusion network: combines the embeddings of face and voice, weighted by their presence, for each face label set.

Inputs: face_embedding [B, 128], speech_embedding [B, voice], presence [B, 2] in [0, 1] (face, speech). Presence is the
probability that the embedding describes the current face or voice; 0 means absent. Outputs: logits official [B, 8] and
ferplus [B, 8].

The model is Bayes' rule for two sources that are conditionally independent given the class. Each source has an error
probability:

    p(c | face, voice) ~ (t_f ((1 - w_f) l(c) + w_f) + 1 - t_f) (t_v ((1 - w_v) p(c) + w_v s(c)) + (1 - t_v) r(c))

l is the face likelihood (the posterior of the face divided by the class frequencies), p the posterior of the voice, t the
presence, w the error probability, s the class frequencies of the pairs and r those of the face data. A source with presence 0
has no effect. The heads that read the embeddings are fixed; training fits scales, shifts and error probabilities.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from moodring.labels import CLASSES, FACE_CLASSES, NEUTRAL
from moodring.train.models.face import EMBEDDING as FACE_EMBEDDING
from moodring.train.models.speech import EMBEDDING as SPEECH_EMBEDDING

EMBEDDING = FACE_EMBEDDING
OUTPUTS = ("official", "ferplus")
FACE_CLASS_INDICES = [*range(FACE_CLASSES), NEUTRAL]  # calm uses the row of neutral: the face branch has no calm
CALM_WITHOUT_VOICE = 1e-4  # prior of calm without a voice: the face branch never outputs it
INITIAL_ERROR_LOGIT = -3.5  # of the error probability, before training
MIN_PROBABILITY = 1e-6


class FusionHead(nn.Module):
    """Fusion for one label set: face logits [B, 7], voice logits [B, 8] and presence [B, 2] to logits [B, 8]."""

    prior: Tensor
    shares: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("prior", torch.full((CLASSES,), 1.0 / CLASSES))  # class frequencies of the face data
        self.register_buffer("shares", torch.full((CLASSES,), 1.0 / CLASSES))  # class frequencies of the pairs
        self.scale = nn.Parameter(torch.ones(2))
        self.shift_face = nn.Parameter(torch.zeros(CLASSES))
        self.shift_voice = nn.Parameter(torch.zeros(CLASSES))
        self.wrong = nn.Parameter(torch.full((2,), INITIAL_ERROR_LOGIT))

    def forward(self, face: Tensor, voice: Tensor, presence: Tensor) -> Tensor:
        wrong = torch.sigmoid(self.wrong)
        face_likelihood = torch.softmax(self.scale[0] * face[:, FACE_CLASS_INDICES] + self.shift_face, dim=1) / self.shares
        voice_posterior = torch.softmax(self.scale[1] * voice + self.shift_voice, dim=1)
        trust_face, trust_voice = presence[:, 0:1], presence[:, 1:2]
        face_term = trust_face * ((1 - wrong[0]) * face_likelihood + wrong[0]) + (1 - trust_face)
        voice_term = trust_voice * ((1 - wrong[1]) * voice_posterior + wrong[1] * self.shares) + (1 - trust_voice) * self.prior
        return torch.log(torch.clamp(face_term, min=MIN_PROBABILITY)) + torch.log(torch.clamp(voice_term, min=MIN_PROBABILITY))

    @torch.no_grad()
    def initialise_from_priors(self, prior: Tensor, shares: Tensor) -> None:
        """Initialise the head to the product of likelihoods.

        `prior` [7] holds the class frequencies of the face data, `shares` [8] those of the pairs.
        """
        with_calm = torch.cat([prior.float(), torch.tensor([CALM_WITHOUT_VOICE])])
        with_calm = torch.clamp(with_calm, min=CALM_WITHOUT_VOICE)
        self.prior.copy_(with_calm / with_calm.sum())
        self.shares.copy_(shares)
        self.shift_face.copy_(torch.log(self.shares) - torch.log(self.prior[FACE_CLASS_INDICES]))


class FusionNet(nn.Module):
    """The fusion network. `voice` is the length of the speech embedding."""

    def __init__(self, voice: int = SPEECH_EMBEDDING) -> None:
        super().__init__()
        self.face = nn.ModuleDict({name: nn.Linear(EMBEDDING, FACE_CLASSES) for name in OUTPUTS})
        self.voice = nn.Linear(voice, CLASSES)
        self.joint = nn.ModuleDict({name: FusionHead() for name in OUTPUTS})
        self.face.requires_grad_(requires_grad=False)
        self.voice.requires_grad_(requires_grad=False)

    def forward(self, face_embedding: Tensor, speech_embedding: Tensor, presence: Tensor) -> tuple[Tensor, Tensor]:
        voice = self.voice(speech_embedding)
        official, ferplus = (self.joint[name](self.face[name](face_embedding), voice, presence) for name in OUTPUTS)
        return official, ferplus

    @torch.no_grad()
    def set_heads(self, face: dict[str, tuple[Tensor, Tensor]], voice: tuple[Tensor, Tensor]) -> None:
        """Copy the calibrated heads of the branches: (weight, bias) of each face head by name, and of the voice."""
        self.voice = nn.Linear(voice[0].shape[1], CLASSES).requires_grad_(requires_grad=False)
        face_heads = [(cast("nn.Linear", self.face[name]), face[name]) for name in OUTPUTS]
        for head, (weight, bias) in [*face_heads, (self.voice, voice)]:
            head.weight.copy_(weight)
            head.bias.copy_(bias)


def class_frequencies(labels: Tensor) -> Tensor:
    """Return the class frequencies of labels [N], float32 [8], with one added to every count."""
    counts = torch.bincount(labels, minlength=CLASSES).float() + 1.0
    return counts / counts.sum()
