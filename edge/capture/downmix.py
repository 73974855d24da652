"""Mix of the channels of sound to mono by their positions, with the loudness of the channels taken into account.

A stereo pair becomes its mean. A layout with a centre (5.1, 7.1) becomes the centre, plus the mean of the front pair, plus half
the mean of the others; the low-frequency channel is left out. Channels without a position become their mean. Three faults of
recordings are compensated, decided once per block of `BLOCK_S` from the running covariance of the channels:

- a dead channel does not count: the mean is that of the other channels;
- channels that cancel each other, such as a stereo pair with one inverted channel, are replaced by the strongest channel;
- a sum that exceeds full scale is turned down.

A decision applies from the next block on, so that no output is delayed. Any chunking of the same sound gives the same mix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moodring.types import F32

MAX_CHANNELS = 64  # that FFmpeg resamples
BLOCK_S = 0.05
MEMORY = 0.9  # of the running covariance per block: a time constant of half a second
WARM_UP_BLOCKS = 5  # with sound, before the first decision
SILENCE = 1e-7  # mean square (-70 dBFS); a quieter block changes no decision
DEAD = 1e-4  # power relative to the strongest channel (-40 dB)
CANCELLED, RESTORED = 0.1, 0.2  # power of the mix relative to the strongest channel: below, above
STRONGEST_HYSTERESIS = 2.0  # in power
PEAK_MEMORY = 0.998  # per block: a mix that was turned down recovers by 6 dB within 20 s

FRONT = frozenset({"FL", "FR", "FLC", "FRC", "WL", "WR", "DL", "DR"})
LOW_FREQUENCY = frozenset({"LFE", "LFE2"})
NO_POSITION = "NONE"
AMBISONIC = "AMBI"  # ambisonic components; the first one, AMBI0, is the sound of all directions

F64 = NDArray[np.float64]
# Channels that are averaged, and the weight of their mean in the mix.
_Group = tuple[tuple[int, ...], float]


def _group_channels(names: Sequence[str]) -> list[_Group]:
    """Return the groups of a layout from the names of its channels, as FFmpeg abbreviates them."""
    if len(names) == 2 or NO_POSITION in names:
        return [(tuple(range(len(names))), 1.0)]
    members: dict[float | str, list[int]] = {}
    weights = {"centre": 1.0, "front": 1.0, "other": 0.5, "none": 0.0}
    for index, name in enumerate(names):
        if name in LOW_FREQUENCY or (name.startswith(AMBISONIC) and name != f"{AMBISONIC}0"):
            group = "none"
        elif name in ("FC", f"{AMBISONIC}0"):
            group = "centre"
        else:
            group = "front" if name in FRONT else "other"
        members.setdefault(group, []).append(index)
    return [(tuple(indices), weights[str(group)]) for group, indices in members.items()]


class Downmix:
    """Mixes blocks of float32 [N, channels] to mono float32 [N]. `names` are the channel names of the layout."""

    def __init__(self, names: Sequence[str], rate_hz: int) -> None:
        self._groups = _group_channels(names)
        self._block = np.zeros((round(rate_hz * BLOCK_S), len(names)), np.float32)
        self._ramp = np.arange(1, len(self._block) + 1, dtype=np.float32) / np.float32(len(self._block))
        self.reset()

    def reset(self) -> None:
        """Start a new signal."""
        count = self._block.shape[1]
        self._filled = 0
        self._covariance = np.zeros((count, count))
        self._blocks_with_sound = 0
        self._strongest: int | None = None  # the channel that replaces a mix that cancels
        self._peak = 0.0
        self._weights = self._next = self._mix_weights(np.ones(count, np.bool_)).astype(np.float32)

    def push(self, samples: F32) -> F32:
        """Return the mono mix, float32 [N], of the next samples, float32 [N, channels]."""
        mixed = np.empty(len(samples), np.float32)
        position = 0
        while position < len(samples):
            count = min(len(self._block) - self._filled, len(samples) - position)
            piece = samples[position : position + count]
            mixed[position : position + count] = self._mix(piece)
            self._block[self._filled : self._filled + count] = piece
            self._filled += count
            position += count
            if self._filled == len(self._block):
                self._filled = 0
                self._decide()
        return mixed

    def _mix(self, samples: F32) -> F32:
        mixed = _weighted_sum(samples, self._weights)
        if self._next is self._weights:
            return mixed
        ramp = self._ramp[self._filled : self._filled + len(samples)]  # a step would be a click
        return np.asarray(mixed + ramp * (_weighted_sum(samples, self._next) - mixed), np.float32)

    def _decide(self) -> None:
        """Update the running statistics with the complete block, and set the weights that the next block changes to."""
        self._weights = self._next
        block = np.clip(np.nan_to_num(self._block), -1.0, 1.0).astype(np.float64)
        self._covariance *= MEMORY
        self._covariance += (1 - MEMORY) / len(block) * (block.T @ block)
        powers = self._covariance.diagonal()
        if powers.max() < SILENCE:
            return
        self._blocks_with_sound += 1
        if self._blocks_with_sound < WARM_UP_BLOCKS:
            weights = self._mix_weights(np.ones(len(powers), np.bool_))
        else:
            weights = self._replace_cancelled(self._mix_weights(powers >= DEAD * powers.max()), powers)
        if weights.sum() > 1 and len(self._groups) > 1:
            self._peak = max(self._peak * PEAK_MEMORY, float(np.abs(block @ weights).max()))
            weights = weights / max(1.0, self._peak)
        if not np.array_equal(weights.astype(np.float32), self._weights):
            self._next = weights.astype(np.float32)

    def _mix_weights(self, active: NDArray[np.bool_]) -> F64:
        """Return the weight of each channel. The strongest group that is active has the weight 1."""
        weights = np.zeros(active.size)
        counts = [int(active[list(indices)].sum()) for indices, _ in self._groups]
        top = max((weight for (_, weight), count in zip(self._groups, counts, strict=True) if count), default=1.0)
        for (indices, weight), count in zip(self._groups, counts, strict=True):
            if count:
                weights[list(indices)] = (weight / top if top else 1.0) / count
        return weights

    def _replace_cancelled(self, weights: F64, powers: F64) -> F64:
        """Return the weights of the strongest channel alone if the channels cancel each other, else `weights`."""
        candidates = np.where(weights > 0, powers, 0.0)
        strongest = int(candidates.argmax())
        power = float(weights @ self._covariance @ weights)
        limit = CANCELLED if self._strongest is None else RESTORED
        if power >= limit * powers[strongest]:
            self._strongest = None
            return weights
        if self._strongest is None or powers[strongest] > STRONGEST_HYSTERESIS * powers[self._strongest]:
            self._strongest = strongest
        alone = np.zeros(weights.size)
        alone[self._strongest] = 1.0
        return alone


def _weighted_sum(samples: F32, weights: F32) -> F32:
    """Return the weighted sum of the columns, float32 [N]. Each row is computed alone, so its sum is the same in any block."""
    mixed = np.zeros(len(samples), np.float32)
    for channel, weight in enumerate(weights):
        if weight:
            mixed += samples[:, channel] * weight
    return mixed
