"""Noise in the mel bands: followed frame by frame, and taken out by a gain per band, in the spectrum that is there anyway.

The noise floor follows Cohen and Berdugo, "Noise estimation by minima controlled recursive averaging" (2002): where a band
is well above its recent minimum there is speech, and the floor stands still. The gain is Wiener's on the a priori SNR by
Ephraim and Malah's decision-directed rule (1984), with a floor so that silence keeps a trace of its noise. Both ratios
together give the likelihood that a frame holds speech (Sohn, Kim and Sung, "A statistical model-based voice activity
detection", 1999).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SMOOTHING = 0.8  # of the band energy whose minimum is searched
MINIMUM_FRAMES = 80  # the minimum is over between one and two spans of this many frames
PRESENCE_RATIO = 5.0  # a band this far above its minimum holds speech
PRESENCE_SMOOTHING = 0.2
NOISE_SMOOTHING = 0.95
PRIOR_SMOOTHING = 0.92  # decision-directed
GAIN_FLOOR = 0.1  # of the amplitude: -20 dB
MOST_RATIO = 1e6  # of energy to noise: digital silence has none
MOST_LIKELIHOOD = 20.0  # of one band
DIGITAL_SILENCE = 1.0  # of a frame's summed mel energies, at the level of 16-bit samples: below their rounding
PARTLY_SILENT_FRAMES = 3  # a window of 25 ms is partly over the end of silence for as many hops of 10 ms
_TINY = 1e-10
_BLOCK = 16  # frames whose independent parts are computed at once: a call of NumPy costs more than what it does for one

Array = NDArray[Any]


class _Room(NamedTuple):
    """Where the frames of a block are worked on, each [frames, ..., bands]; the last two without the bands."""

    smooth: Array
    least: Array  # PRESENCE_RATIO times the minimum
    present: Array
    weight: Array
    floor: Array
    said: Array  # the energies attenuated
    a: Array
    b: Array
    above: Array
    voiced: Array  # of `weight`, the bands of voices
    sums: Array
    loud: Array


class NoiseReduction:
    """One stream's noise floor.

    `apply` takes mel energies [frames, bands] in time order. Where it is to `reduce`, it changes them in place; else it only
    listens. `likelihood` receives the mean log likelihood ratio of speech against noise over `voice_bands`, for each frame.
    Several streams can be followed at once: `shape` is then (streams, bands), and energies are [frames, streams, bands].
    """

    def __init__(self, shape: tuple[int, ...], voice_bands: slice, precision: type[Any], *, reduce: bool) -> None:
        self._reduce = reduce
        self._smoothed, self._minimum, self._next_minimum, self._presence, self._noise, self._clean = np.zeros(
            (6, *shape), precision
        )
        self._one = np.zeros(shape, precision)
        smooth, least, present, weight, floor, said, a, b = np.zeros((8, _BLOCK, *shape), precision)
        above, loud = np.zeros((_BLOCK, *shape), np.bool_), np.zeros((_BLOCK, *shape[:-1]), np.bool_)
        voiced, sums = weight[..., voice_bands], np.zeros((_BLOCK, *shape[:-1]), precision)
        whole = _Room(smooth, least, present, weight, floor, said, a, b, above, voiced, sums, loud)
        self._rooms = [_Room(*(part[:count] for part in whole)) for count in range(_BLOCK + 1)]
        self._smooth, self._least, self._present = list(smooth), list(least), list(present)  # frame by frame
        self._moving = list(zip(weight, least, floor, strict=True))
        self._saying = list(zip(a, floor, said, strict=True))
        self.reset()

    def reset(self) -> None:
        """Forget the noise: the next frame that is not digital silence starts a new signal, and is taken for noise."""
        self._frame = 0
        self._heard = np.zeros(self._noise.shape[:-1], np.int64)  # frames since digital silence

    def apply(self, energies: Array, likelihood: Array) -> None:
        """Follow the noise and attenuate it in place; write each frame's likelihood (of each stream), [frames] or more."""
        start, frames = 0, len(energies)
        while start < frames:
            turn = MINIMUM_FRAMES - 1 - self._frame % MINIMUM_FRAMES  # frames until the spans of the minimum change
            room = self._rooms[min(_BLOCK, frames - start, max(1, turn))]
            block = energies[start : start + len(room.smooth)]
            if self._is_near_silence(block, room):
                room, block = self._rooms[1], block[:1]
                self._start_after_silence(block[0], room)
            self._follow(block, room, turn=not turn)
            self._attenuate(block, room)
            likelihood[start : start + len(block)] = _speech_likelihood(block, room)
            if self._reduce:
                np.copyto(block, room.said)
            self._frame += len(block)
            start += len(block)

    def _is_near_silence(self, energies: Array, room: _Room) -> bool:
        """Say whether digital silence is in a block or ended just before it; else count its frames as heard."""
        np.add.reduce(energies, axis=-1, out=room.sums)
        np.greater_equal(room.sums, DIGITAL_SILENCE, out=room.loud)
        if not room.loud.all() or self._heard.min() < PARTLY_SILENT_FRAMES:
            return True
        self._heard += len(energies)
        return False

    def _start_after_silence(self, energy: Array, room: _Room) -> None:
        """Begin anew where digital silence ends: a muted microphone or a codec's lead-in says nothing of the room's noise."""
        self._heard = np.asarray((self._heard + 1) * room.loud[0])
        fresh = np.asarray(self._heard <= PARTLY_SILENT_FRAMES)
        if fresh.any():
            where = fresh[..., None]
            for state in (self._smoothed, self._minimum, self._next_minimum, self._noise):
                np.maximum(energy, _TINY, out=state, where=where)
            np.copyto(self._presence, 0.0, where=where)
            np.copyto(self._clean, 0.0, where=where)

    def _follow(self, energies: Array, room: _Room, *, turn: bool) -> None:
        """Move the floor towards the energies, in each band as far as there is no speech; `turn` is of one frame alone."""
        one, smoothed, minimum, least = self._one, self._smoothed, self._minimum, room.least
        for energy, row, low in zip(energies, self._smooth, self._least, strict=False):
            np.subtract(smoothed, energy, one)
            np.multiply(one, SMOOTHING, one)
            np.add(one, energy, row)
            np.minimum(self._next_minimum if turn else minimum, row, out=low)
            if not turn:
                np.minimum(self._next_minimum, row, out=self._next_minimum)
            smoothed, minimum = row, low
        np.copyto(self._smoothed, smoothed)
        if turn:
            np.copyto(self._next_minimum, smoothed)
        np.copyto(self._minimum, least[-1])
        np.multiply(least, PRESENCE_RATIO, least)
        np.greater(room.smooth, least, room.above)
        np.copyto(room.present, room.above)  # a product of truth values and numbers would be made in new memory
        np.multiply(room.present, 1.0 - PRESENCE_SMOOTHING, room.present)
        presence = self._presence
        for row in self._present[: len(energies)]:
            np.multiply(presence, PRESENCE_SMOOTHING, one)
            np.add(one, row, row)
            presence = row
        np.copyto(self._presence, presence)
        np.multiply(room.present, 1.0 - NOISE_SMOOTHING, room.weight)
        np.add(room.weight, NOISE_SMOOTHING, room.weight)
        noise = self._noise
        for energy, (weight, most, row) in zip(energies, self._moving, strict=False):
            np.subtract(noise, energy, one)
            np.multiply(one, weight, one)
            np.add(one, energy, row)
            np.minimum(row, most, out=row)  # a stream may begin in the middle of a word
            np.maximum(row, _TINY, out=row)
            noise = row
        np.copyto(self._noise, noise)

    def _attenuate(self, energies: Array, room: _Room) -> None:
        """Multiply the energies by the squared gain; keep the last as the clean energy of the next frame's prior."""
        np.subtract(energies, room.floor, room.a)
        np.maximum(room.a, 0.0, out=room.a)
        np.multiply(room.a, 1.0 - PRIOR_SMOOTHING, room.a)
        clean, gain = self._clean, self._one
        for energy, (prior, floor, out) in zip(energies, self._saying, strict=False):
            np.multiply(clean, PRIOR_SMOOTHING, gain)
            np.add(prior, gain, prior)  # times the noise: the noise cancels in the gain
            np.add(prior, floor, gain)
            np.divide(prior, gain, gain)
            np.maximum(gain, GAIN_FLOOR, out=gain)
            np.multiply(gain, gain, gain)
            np.multiply(energy, gain, out)
            clean = out
        np.copyto(self._clean, clean)


def _speech_likelihood(energies: Array, room: _Room) -> Array:
    """Mean over the voice's bands of g x / (1 + x) - log(1 + x), g the posterior and x the prior SNR."""
    ratio, prior, other = room.weight, room.a, room.b
    np.divide(energies, room.floor, ratio)
    np.minimum(ratio, MOST_RATIO, out=ratio)
    np.divide(room.said, room.floor, prior)
    np.minimum(prior, MOST_RATIO, out=prior)
    np.add(prior, 1.0, other)
    np.multiply(ratio, prior, ratio)
    np.divide(ratio, other, ratio)
    np.log(other, other)
    np.subtract(ratio, other, ratio)
    np.minimum(ratio, MOST_LIKELIHOOD, out=ratio)
    np.add.reduce(room.voiced, axis=-1, out=room.sums)
    np.divide(room.sums, room.voiced.shape[-1], room.sums)
    return room.sums
