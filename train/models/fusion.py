"""Feature fusion: both embeddings and how far each may be trusted, to one answer for each of the face's label sets.

Inputs: face_embedding [B, 128], speech_embedding [B, voice], presence [B, 2] in [0, 1] (face, speech): how likely it is that
the embedding speaks of what is there now; 0 is absent. Outputs: official [B, 8] and ferplus [B, 8], logits.

It is Bayes' rule for two witnesses who know nothing of each other once the class is given, each of whom may be wrong:

    p(c | face, voice) ~ (t_f l(c) + 1 - t_f) (t_v p(c) + (1 - t_v) r(c))

l is the face's likelihood of the class (its answer, the shares of its classes divided out), p the voice's answer, t what is
trusted of each and r the shares of the face's classes: whoever is not trusted adds nothing. What both heads read in the
embeddings is fixed; scales, shifts and how often a trusted witness is wrong all the same are learnt.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moodring.labels import CLASSES, FACE_CLASSES, NEUTRAL

EMBEDDING = 128
OUTPUTS = ("official", "ferplus")
FACE_CLASS_INDICES = [*range(FACE_CLASSES), NEUTRAL]  # a calm voice goes with a neutral face: calm takes neutral's row
CALM_WITHOUT_VOICE = 1e-4  # without a voice nothing is calm
INITIAL_ERROR_LOGIT = -3.5  # logit of how often a trusted witness is wrong, before training
MIN_PROBABILITY = 1e-6


class FusionHead(nn.Module):
    """Joins what two heads said, for one label set: face [B, 7] and voice [B, 8] logits, presence [B, 2] to logits [B, 8]."""

    prior: Tensor
    shares: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("prior", torch.full((CLASSES,), 1.0 / CLASSES))  # of the classes where only the face speaks
        self.register_buffer("shares", torch.full((CLASSES,), 1.0 / CLASSES))  # of the classes of the pairs
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
        """Begin as the product of both answers, the face's class shares `prior` [7] divided out; `shares` [8] of the pairs."""
        whole = torch.cat([prior.float(), torch.tensor([CALM_WITHOUT_VOICE])])
        whole = torch.clamp(whole, min=CALM_WITHOUT_VOICE)
        self.prior.copy_(whole / whole.sum())
        self.shares.copy_(shares)
        self.shift_face.copy_(torch.log(self.shares) - torch.log(self.prior[FACE_CLASS_INDICES]))


class FusionNet(nn.Module):
    """`voice` says how long the voice's embedding is."""

    def __init__(self, voice: int = EMBEDDING) -> None:
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
        """Read the embeddings as these heads do: weights and bias of each face head and of the voice's, temperature applied."""
        self.voice = nn.Linear(voice[0].shape[1], CLASSES).requires_grad_(requires_grad=False)
        for head, (weight, bias) in [*((self.face[name], face[name]) for name in OUTPUTS), (self.voice, voice)]:
            head.weight.copy_(weight)
            head.bias.copy_(bias)


def class_frequencies(labels: Tensor) -> Tensor:
    """Return how often each class occurs, float32 [8], none of them never."""
    counts = torch.bincount(labels, minlength=CLASSES).float() + 1.0
    return counts / counts.sum()
