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
MAX_SNR = 1e6  # of energy to noise: digital silence has none
MAX_LOG_LIKELIHOOD = 20.0  # of one band
DIGITAL_SILENCE = 1.0  # of a frame's summed mel energies, at the level of 16-bit samples: below their rounding
PARTLY_SILENT_FRAMES = 3  # a window of 25 ms is partly over the end of silence for as many hops of 10 ms
_TINY = 1e-10
_BLOCK_FRAMES = 16  # frames whose independent parts are computed at once: a call of NumPy costs more than what it does for one

Array = NDArray[Any]


class _Workspace(NamedTuple):
    """Where the frames of a block are worked on, each [frames, ..., bands]; the last two without the bands."""

    smooth: Array
    presence_threshold: Array  # PRESENCE_RATIO times the minimum
    presence_rows: Array
    weight: Array
    noise_floor: Array
    attenuated: Array  # the energies attenuated
    scratch_a: Array
    scratch_b: Array
    is_present: Array
    voice_weight: Array  # of `weight`, the bands of voices
    frame_sums: Array
    is_audible: Array


class NoiseReduction:
    """One stream's noise floor.

    `apply` takes mel energies [frames, bands] in time order. Where it is to `reduce`, it changes them in place; else it only
    listens. `likelihood` receives the mean log likelihood ratio of speech against noise over `voice_bands`, for each frame.
    Several streams can be followed at once: `shape` is then (streams, bands), and energies are [frames, streams, bands].
    """

    def __init__(self, shape: tuple[int, ...], voice_bands: slice, dtype: type[Any], *, reduce: bool) -> None:
        self._reduce = reduce
        self._smoothed, self._minimum, self._next_minimum, self._presence, self._noise, self._clean = np.zeros(
            (6, *shape), dtype
        )
        self._scratch = np.zeros(shape, dtype)
        smooth, presence_threshold, presence_rows, weight, noise_floor, attenuated, scratch_a, scratch_b = np.zeros(
            (8, _BLOCK_FRAMES, *shape), dtype
        )
        is_present, is_audible = np.zeros((_BLOCK_FRAMES, *shape), np.bool_), np.zeros((_BLOCK_FRAMES, *shape[:-1]), np.bool_)
        voice_weight, frame_sums = weight[..., voice_bands], np.zeros((_BLOCK_FRAMES, *shape[:-1]), dtype)
        full = _Workspace(
            smooth,
            presence_threshold,
            presence_rows,
            weight,
            noise_floor,
            attenuated,
            scratch_a,
            scratch_b,
            is_present,
            voice_weight,
            frame_sums,
            is_audible,
        )
        self._workspaces = [_Workspace(*(part[:count] for part in full)) for count in range(_BLOCK_FRAMES + 1)]
        self._smooth_rows, self._minimum_rows, self._presence_rows = (
            list(smooth),
            list(presence_threshold),
            list(presence_rows),
        )  # frame by frame
        self._noise_rows = list(zip(weight, presence_threshold, noise_floor, strict=True))
        self._attenuation_rows = list(zip(scratch_a, noise_floor, attenuated, strict=True))
        self.reset()

    def reset(self) -> None:
        """Forget the noise: the next frame that is not digital silence starts a new signal, and is taken for noise."""
        self._frame = 0
        self._frames_since_silence = np.zeros(self._noise.shape[:-1], np.int64)  # frames since digital silence

    def apply(self, energies: Array, likelihood: Array) -> None:
        """Follow the noise and attenuate it in place; write each frame's likelihood (of each stream), [frames] or more."""
        start, frames = 0, len(energies)
        while start < frames:
            turn = MINIMUM_FRAMES - 1 - self._frame % MINIMUM_FRAMES  # frames until the spans of the minimum change
            workspace = self._workspaces[min(_BLOCK_FRAMES, frames - start, max(1, turn))]
            block = energies[start : start + len(workspace.smooth)]
            if self._is_near_silence(block, workspace):
                workspace, block = self._workspaces[1], block[:1]
                self._restart_after_silence(block[0], workspace)
            self._update_noise(block, workspace, turn=not turn)
            self._attenuate(block, workspace)
            likelihood[start : start + len(block)] = _speech_likelihood(block, workspace)
            if self._reduce:
                np.copyto(block, workspace.attenuated)
            self._frame += len(block)
            start += len(block)

    def _is_near_silence(self, energies: Array, workspace: _Workspace) -> bool:
        """Say whether digital silence is in a block or ended just before it; else count its frames as heard."""
        np.add.reduce(energies, axis=-1, out=workspace.frame_sums)
        np.greater_equal(workspace.frame_sums, DIGITAL_SILENCE, out=workspace.is_audible)
        if not workspace.is_audible.all() or self._frames_since_silence.min() < PARTLY_SILENT_FRAMES:
            return True
        self._frames_since_silence += len(energies)
        return False

    def _restart_after_silence(self, energy: Array, workspace: _Workspace) -> None:
        """Begin anew where digital silence ends: a muted microphone or a codec's lead-in says nothing of the room's noise."""
        self._frames_since_silence = np.asarray((self._frames_since_silence + 1) * workspace.is_audible[0])
        restarting = np.asarray(self._frames_since_silence <= PARTLY_SILENT_FRAMES)
        if restarting.any():
            where = restarting[..., None]
            for state in (self._smoothed, self._minimum, self._next_minimum, self._noise):
                np.maximum(energy, _TINY, out=state, where=where)
            np.copyto(self._presence, 0.0, where=where)
            np.copyto(self._clean, 0.0, where=where)

    def _update_noise(self, energies: Array, workspace: _Workspace, *, turn: bool) -> None:
        """Move the floor towards the energies, in each band as far as there is no speech; `turn` is of one frame alone."""
        scratch, smoothed, minimum, presence_threshold = (
            self._scratch,
            self._smoothed,
            self._minimum,
            workspace.presence_threshold,
        )
        for energy, row, low in zip(energies, self._smooth_rows, self._minimum_rows, strict=False):
            np.subtract(smoothed, energy, scratch)
            np.multiply(scratch, SMOOTHING, scratch)
            np.add(scratch, energy, row)
            np.minimum(self._next_minimum if turn else minimum, row, out=low)
            if not turn:
                np.minimum(self._next_minimum, row, out=self._next_minimum)
            smoothed, minimum = row, low
        np.copyto(self._smoothed, smoothed)
        if turn:
            np.copyto(self._next_minimum, smoothed)
        np.copyto(self._minimum, presence_threshold[-1])
        np.multiply(presence_threshold, PRESENCE_RATIO, presence_threshold)
        np.greater(workspace.smooth, presence_threshold, workspace.is_present)
        np.copyto(
            workspace.presence_rows, workspace.is_present
        )  # a product of truth values and numbers would be made in new memory
        np.multiply(workspace.presence_rows, 1.0 - PRESENCE_SMOOTHING, workspace.presence_rows)
        presence = self._presence
        for row in self._presence_rows[: len(energies)]:
            np.multiply(presence, PRESENCE_SMOOTHING, scratch)
            np.add(scratch, row, row)
            presence = row
        np.copyto(self._presence, presence)
        np.multiply(workspace.presence_rows, 1.0 - NOISE_SMOOTHING, workspace.weight)
        np.add(workspace.weight, NOISE_SMOOTHING, workspace.weight)
        noise = self._noise
        for energy, (weight, noise_limit, row) in zip(energies, self._noise_rows, strict=False):
            np.subtract(noise, energy, scratch)
            np.multiply(scratch, weight, scratch)
            np.add(scratch, energy, row)
            np.minimum(row, noise_limit, out=row)  # a stream may begin in the middle of a word
            np.maximum(row, _TINY, out=row)
            noise = row
        np.copyto(self._noise, noise)

    def _attenuate(self, energies: Array, workspace: _Workspace) -> None:
        """Multiply the energies by the squared gain; keep the last as the clean energy of the next frame's prior."""
        np.subtract(energies, workspace.noise_floor, workspace.scratch_a)
        np.maximum(workspace.scratch_a, 0.0, out=workspace.scratch_a)
        np.multiply(workspace.scratch_a, 1.0 - PRIOR_SMOOTHING, workspace.scratch_a)
        clean, gain = self._clean, self._scratch
        for energy, (prior, noise_floor, out) in zip(energies, self._attenuation_rows, strict=False):
            np.multiply(clean, PRIOR_SMOOTHING, gain)
            np.add(prior, gain, prior)  # times the noise: the noise cancels in the gain
            np.add(prior, noise_floor, gain)
            np.divide(prior, gain, gain)
            np.maximum(gain, GAIN_FLOOR, out=gain)
            np.multiply(gain, gain, gain)
            np.multiply(energy, gain, out)
            clean = out
        np.copyto(self._clean, clean)


def _speech_likelihood(energies: Array, workspace: _Workspace) -> Array:
    """Mean over the voice's bands of g x / (1 + x) - log(1 + x), g the posterior and x the prior SNR."""
    ratio, prior, other = workspace.weight, workspace.scratch_a, workspace.scratch_b
    np.divide(energies, workspace.noise_floor, ratio)
    np.minimum(ratio, MAX_SNR, out=ratio)
    np.divide(workspace.attenuated, workspace.noise_floor, prior)
    np.minimum(prior, MAX_SNR, out=prior)
    np.add(prior, 1.0, other)
    np.multiply(ratio, prior, ratio)
    np.divide(ratio, other, ratio)
    np.log(other, other)
    np.subtract(ratio, other, ratio)
    np.minimum(ratio, MAX_LOG_LIKELIHOOD, out=ratio)
    np.add.reduce(workspace.voice_weight, axis=-1, out=workspace.frame_sums)
    np.divide(workspace.frame_sums, workspace.voice_weight.shape[-1], workspace.frame_sums)
    return workspace.frame_sums
