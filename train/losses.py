"""The classification loss of the face and speech branches."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy of logits [B, C] with target distributions [B, C].

    The weight of a row is the sum of its targets: a row of zeros has none. `smoothing` is the label smoothing.
    """
    weight = targets.sum(dim=1, keepdim=True)
    smooth = targets * (1 - smoothing) + weight * smoothing / targets.shape[1]
    return -(smooth * torch.log_softmax(logits, dim=1)).sum() / weight.sum().clamp(min=1.0)
