"""Noise in the mel bands: followed frame by frame, and taken out by a gain per band, in the spectrum that is there anyway.

The noise floor follows Cohen and Berdugo, "Noise estimation by minima controlled recursive averaging" (2002): where a band
is well above its recent minimum there is speech, and the floor stands still. The gain is Wiener's on the a priori SNR by
Ephraim and Malah's decision-directed rule (1984), with a floor so that silence keeps a trace of its noise. Both ratios
together give the likelihood that a frame holds speech (Sohn, Kim and Sung, "A statistical model-based voice activity
detection", 1999).
"""

from __future__ import annotations

from typing import Any

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

Array = NDArray[Any]


class NoiseReduction:
    """One stream's noise floor.

    `apply` takes mel energies [frames, bands] in time order. Where it is to `reduce`, it changes them in place; else it only
    listens. `likelihood` receives the mean log likelihood ratio of speech against noise over `voice_bands`, for each frame.
    Several streams can be followed at once: `shape` is then (streams, bands), and energies are [frames, streams, bands].
    """

    def __init__(self, shape: tuple[int, ...], voice_bands: slice, precision: type[Any], *, reduce: bool) -> None:
        self._reduce = reduce
        self._voice_bands = voice_bands
        self._ratio = np.zeros(shape, precision)
        self._smoothed, self._minimum, self._next_minimum, self._presence, self._noise, self._clean = np.zeros(
            (6, *shape), precision
        )
        self._a, self._b = np.zeros((2, *shape), precision)
        self._above = np.zeros(shape, np.bool_)
        self._heard = np.zeros(shape[:-1], np.int64)  # frames since digital silence
        self.reset()

    def reset(self) -> None:
        """Forget the noise: the next frame that is not digital silence starts a new signal, and is taken for noise."""
        self._frame = 0
        self._heard = np.zeros(self._noise.shape[:-1], np.int64)

    def apply(self, energies: Array, likelihood: Array) -> None:
        """Follow the noise and attenuate it in place; write each frame's likelihood (of each stream), [frames] or more."""
        for index, energy in enumerate(energies):
            self._start_after_silence(energy)
            self._follow(energy)
            np.divide(energy, self._noise, self._ratio)
            np.minimum(self._ratio, MOST_RATIO, out=self._ratio)
            self._attenuate(energy)
            likelihood[index] = self._speech_likelihood()
            self._frame += 1

    def _start_after_silence(self, energy: Array) -> None:
        """Begin anew where digital silence ends: a muted microphone or a codec's lead-in says nothing of the room's noise."""
        heard = np.add.reduce(energy, axis=-1) >= DIGITAL_SILENCE
        self._heard = np.asarray((self._heard + 1) * heard)
        fresh = np.asarray(self._heard <= PARTLY_SILENT_FRAMES)
        if fresh.any():
            where = fresh[..., None]
            for state in (self._smoothed, self._minimum, self._next_minimum, self._noise):
                np.maximum(energy, _TINY, out=state, where=where)
            np.copyto(self._presence, 0.0, where=where)
            np.copyto(self._clean, 0.0, where=where)

    def _follow(self, energy: Array) -> None:
        """Move the floor towards the energy, in each band as far as there is no speech."""
        smoothed, weight = self._smoothed, self._a
        np.subtract(smoothed, energy, self._b)
        np.multiply(self._b, SMOOTHING, self._b)
        np.add(self._b, energy, smoothed)
        if self._frame % MINIMUM_FRAMES == MINIMUM_FRAMES - 1:
            np.minimum(self._next_minimum, smoothed, out=self._minimum)
            self._next_minimum[:] = smoothed
        else:
            np.minimum(self._minimum, smoothed, out=self._minimum)
            np.minimum(self._next_minimum, smoothed, out=self._next_minimum)
        np.multiply(self._minimum, PRESENCE_RATIO, self._b)
        np.greater(smoothed, self._b, self._above)
        np.multiply(self._presence, PRESENCE_SMOOTHING, self._presence)
        np.copyto(self._b, self._above)  # a product of truth values and numbers would be made in new memory
        np.multiply(self._b, 1.0 - PRESENCE_SMOOTHING, self._b)
        np.add(self._presence, self._b, self._presence)
        np.multiply(self._presence, 1.0 - NOISE_SMOOTHING, weight)
        np.add(weight, NOISE_SMOOTHING, weight)
        np.subtract(self._noise, energy, self._b)
        np.multiply(self._b, weight, self._b)
        np.add(self._b, energy, self._noise)
        np.multiply(self._minimum, PRESENCE_RATIO, self._b)
        np.minimum(self._noise, self._b, out=self._noise)  # a stream may begin in the middle of a word
        np.maximum(self._noise, _TINY, out=self._noise)

    def _attenuate(self, energy: Array) -> None:
        """Multiply the energy by the squared gain; keep it as the clean energy of the next frame's prior."""
        prior, gain = self._a, self._b
        np.subtract(energy, self._noise, prior)
        np.maximum(prior, 0.0, out=prior)
        np.multiply(prior, 1.0 - PRIOR_SMOOTHING, prior)
        np.multiply(self._clean, PRIOR_SMOOTHING, gain)
        np.add(prior, gain, prior)  # times the noise: the noise cancels in the gain
        np.add(prior, self._noise, gain)
        np.divide(prior, gain, gain)
        np.maximum(gain, GAIN_FLOOR, out=gain)
        np.multiply(gain, gain, gain)
        np.multiply(energy, gain, self._clean)
        if self._reduce:
            np.copyto(energy, self._clean)

    def _speech_likelihood(self) -> Array:
        """Mean over the voice's bands of g x / (1 + x) - log(1 + x), g the posterior and x the prior SNR."""
        prior, other = self._a, self._b
        np.divide(self._clean, self._noise, prior)
        np.minimum(prior, MOST_RATIO, out=prior)
        np.add(prior, 1.0, other)
        np.multiply(self._ratio, prior, self._ratio)
        np.divide(self._ratio, other, self._ratio)
        np.log(other, other)
        np.subtract(self._ratio, other, self._ratio)
        np.minimum(self._ratio, MOST_LIKELIHOOD, out=self._ratio)
        voiced = self._ratio[..., self._voice_bands]
        return np.asarray(np.add.reduce(voiced, axis=-1) / voiced.shape[-1])
