"""Baseline of a voice: the running mean of the features of its voiced frames, subtracted from the input of the network.

Voices and microphones differ in their mean spectrum and pitch more than expressions do. The baseline removes this difference as
far as it is known. It lives in memory, holds one number for each column, and ends with the stream.

The baseline starts at the mean of the training speakers and moves to that of the voice: after `PRIOR_FRAMES` it is half way.
After `MEMORY_FRAMES`, old frames are forgotten exponentially. A difference is limited to that of training speakers, so that a
voice that shows one expression all day, such as shouting, keeps most of what sets it apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from moodring.types import F32

PRIOR_FRAMES = 200
MEMORY_FRAMES = 12_000  # two minutes of voice


@dataclass(frozen=True, slots=True)
class BaselineInfo:
    """What a bundle says about the voices of its training: the `mean` of their voiced frames and the `limit` of a difference.

    Both are float32 [columns].
    """

    mean: F32
    limit: F32

    @classmethod
    def from_dict(cls, data: dict[str, Any], columns: int) -> Self:
        """Read the entry of a bundle. Raises ValueError unless it has a finite number for each column."""
        mean, limit = (np.asarray(data[key], np.float32) for key in ("mean", "limit"))
        if mean.shape != (columns,) or limit.shape != (columns,) or not np.isfinite([mean, limit]).all() or (limit < 0).any():
            raise ValueError(f"the baseline must have {columns} finite numbers for mean and limit")
        return cls(mean, limit)

    def to_dict(self) -> dict[str, list[float]]:
        """Return the entry of a bundle."""
        return {"mean": self.mean.tolist(), "limit": self.limit.tolist()}


class VoiceBaseline:
    """The baseline of one voice, or of one microphone. Any chunking of the same frames into updates gives the same baseline."""

    def __init__(self, info: BaselineInfo) -> None:
        self._info = info
        self._mean: NDArray[np.float64] = info.mean.astype(np.float64)
        self.reset()

    def reset(self) -> None:
        """Forget the voice."""
        self._sum = np.zeros_like(self._mean)
        self._frames = 0.0
        self.offset: F32 = np.zeros(self._mean.shape, np.float32)  # to subtract from each frame

    @property
    def settled(self) -> float:
        """How far the baseline has moved from the training speakers to this voice, in [0, 1)."""
        return self._frames / (self._frames + PRIOR_FRAMES)

    def update(self, frames: F32) -> None:
        """Add voiced frames, float32 [n, columns], with the level removed as in a network input; n may be 0."""
        if not len(frames):
            return
        self._sum += (frames - self._mean).sum(axis=0)
        self._frames += len(frames)
        if self._frames > MEMORY_FRAMES:
            self._sum *= MEMORY_FRAMES / self._frames
            self._frames = float(MEMORY_FRAMES)
        difference = self._sum / (self._frames + PRIOR_FRAMES)
        self.offset = np.clip(difference, -self._info.limit, self._info.limit).astype(np.float32)
