"""Noise tracking and Wiener noise reduction on mel energies, and the likelihood ratio of speech.

The noise floor follows Cohen and Berdugo, "Noise estimation by minima controlled recursive averaging" (2002): a band well
above its recent minimum contains speech, and its floor is not updated. The Wiener gain uses the a priori SNR of Ephraim and
Malah's decision-directed rule (1984). A lower bound on the gain keeps residual noise in pauses. The a posteriori and the a
priori SNR give the log likelihood ratio of speech (Sohn, Kim and Sung, "A statistical model-based voice activity detection",
1999).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SMOOTHING = 0.8  # of the band energies, before the search for their minimum
MINIMUM_FRAMES = 80  # the minimum covers between one and two spans of this length
PRESENCE_RATIO = 5.0  # a band above this multiple of its minimum contains speech
PRESENCE_SMOOTHING = 0.2
NOISE_SMOOTHING = 0.95
PRIOR_SMOOTHING = 0.92  # of the decision-directed rule
GAIN_FLOOR = 0.1  # lower bound of the amplitude gain: -20 dB
MAX_SNR = 1e6  # ratio of energies; digital silence has no noise
MAX_LOG_LIKELIHOOD = 20.0  # of one band
DIGITAL_SILENCE = 1.0  # bound on a frame's summed mel energies at the scale of 16-bit samples: below their rounding error
PARTLY_SILENT_FRAMES = 3  # a window of 25 ms overlaps the end of a silence for this many hops of 10 ms
_MIN_ENERGY = 1e-10
_BLOCK_FRAMES = 16  # frames per vectorised step: for a single frame, a NumPy call costs more than its arithmetic


class _Workspace(NamedTuple):
    """Preallocated intermediates of a block, each [frames, ..., bands]; `frame_sums` and `is_audible` are [frames, ...]."""

    smoothed: NDArray[Any]  # band energies
    presence_threshold: NDArray[Any]  # first the minimum, then PRESENCE_RATIO times the minimum
    presence: NDArray[Any]
    weight: NDArray[Any]
    noise_floor: NDArray[Any]
    attenuated: NDArray[Any]  # energies after the gain
    scratch_a: NDArray[Any]
    scratch_b: NDArray[Any]
    is_present: NDArray[Any]
    voice_weight: NDArray[Any]  # view of `weight`: the bands of voices
    frame_sums: NDArray[Any]
    is_audible: NDArray[Any]


def _allocate_workspace(shape: tuple[int, ...], voice_bands: slice, dtype: type[Any]) -> _Workspace:
    arrays = np.zeros((8, _BLOCK_FRAMES, *shape), dtype)
    return _Workspace(
        smoothed=arrays[0],
        presence_threshold=arrays[1],
        presence=arrays[2],
        weight=arrays[3],
        noise_floor=arrays[4],
        attenuated=arrays[5],
        scratch_a=arrays[6],
        scratch_b=arrays[7],
        is_present=np.zeros((_BLOCK_FRAMES, *shape), np.bool_),
        voice_weight=arrays[3][..., voice_bands],
        frame_sums=np.zeros((_BLOCK_FRAMES, *shape[:-1]), dtype),
        is_audible=np.zeros((_BLOCK_FRAMES, *shape[:-1]), np.bool_),
    )


class NoiseReduction:
    """Noise tracker of one stream, or of several streams at once.

    `shape` is (bands,) for one stream and (streams, bands) for several. `voice_bands` are the bands that the likelihood
    averages. `dtype` is that of the energies. Without `reduce`, the energies are not changed.
    """

    def __init__(self, shape: tuple[int, ...], voice_bands: slice, dtype: type[Any], *, reduce: bool) -> None:
        self._reduce = reduce
        self._smoothed, self._minimum, self._next_minimum, self._presence, self._noise, self._clean = np.zeros(
            (6, *shape), dtype
        )
        self._scratch = np.zeros(shape, dtype)
        full = _allocate_workspace(shape, voice_bands, dtype)
        self._workspaces = [_Workspace(*(array[:count] for array in full)) for count in range(_BLOCK_FRAMES + 1)]
        # Views of single frames, for the recursions over time.
        self._smoothed_rows, self._minimum_rows = list(full.smoothed), list(full.presence_threshold)
        self._presence_rows = list(full.presence)
        self._noise_rows = list(zip(full.weight, full.presence_threshold, full.noise_floor, strict=True))
        self._attenuation_rows = list(zip(full.scratch_a, full.noise_floor, full.attenuated, strict=True))
        self.reset()

    def reset(self) -> None:
        """Start a new signal: its first frame that is not digital silence initialises the noise floor."""
        self._frame = 0
        self._frames_since_silence = np.zeros(self._noise.shape[:-1], np.int64)

    def apply(self, energies: NDArray[Any], likelihood: NDArray[Any]) -> None:
        """Track the noise in mel energies [frames, bands] or [frames, streams, bands], which must follow in time order.

        With `reduce`, attenuates the noise in `energies` in place. Writes the log likelihood ratio of speech, the mean over the
        voice bands, to `likelihood` [frames] or [frames, streams].
        """
        start, frames = 0, len(energies)
        while start < frames:
            frames_to_rotation = MINIMUM_FRAMES - 1 - self._frame % MINIMUM_FRAMES
            workspace = self._workspaces[min(_BLOCK_FRAMES, frames - start, max(1, frames_to_rotation))]
            block = energies[start : start + len(workspace.smoothed)]
            if self._is_near_silence(block, workspace):
                workspace, block = self._workspaces[1], block[:1]
                self._restart_after_silence(block[0], workspace)
            self._update_noise(block, workspace, rotate=not frames_to_rotation)
            self._attenuate(block, workspace)
            likelihood[start : start + len(block)] = _speech_likelihood(block, workspace)
            if self._reduce:
                np.copyto(block, workspace.attenuated)
            self._frame += len(block)
            start += len(block)

    def _is_near_silence(self, energies: NDArray[Any], workspace: _Workspace) -> bool:
        """Return whether a block contains digital silence or closely follows it; otherwise count its frames."""
        np.add.reduce(energies, axis=-1, out=workspace.frame_sums)
        np.greater_equal(workspace.frame_sums, DIGITAL_SILENCE, out=workspace.is_audible)
        if not workspace.is_audible.all() or self._frames_since_silence.min() < PARTLY_SILENT_FRAMES:
            return True
        self._frames_since_silence += len(energies)
        return False

    def _restart_after_silence(self, energy: NDArray[Any], workspace: _Workspace) -> None:
        """Initialise the state from one frame in the streams where digital silence is present or ended just before.

        Digital silence of a muted microphone or of a codec's lead-in contains no information about the noise of the room.
        """
        self._frames_since_silence = np.asarray((self._frames_since_silence + 1) * workspace.is_audible[0])
        restarting = np.asarray(self._frames_since_silence <= PARTLY_SILENT_FRAMES)
        if restarting.any():
            where = restarting[..., None]
            for state in (self._smoothed, self._minimum, self._next_minimum, self._noise):
                np.maximum(energy, _MIN_ENERGY, out=state, where=where)
            np.copyto(self._presence, 0.0, where=where)
            np.copyto(self._clean, 0.0, where=where)

    def _update_noise(self, energies: NDArray[Any], workspace: _Workspace, *, rotate: bool) -> None:
        """Move the noise floor towards the energies, less in bands where speech is present.

        `rotate` starts a new span of the minimum search; the block is then a single frame.
        """
        self._update_minimum(energies, rotate=rotate)
        self._update_presence(workspace)
        np.multiply(workspace.presence, 1.0 - NOISE_SMOOTHING, workspace.weight)
        np.add(workspace.weight, NOISE_SMOOTHING, workspace.weight)
        noise, scratch = self._noise, self._scratch
        for energy, (weight, noise_limit, row) in zip(energies, self._noise_rows, strict=False):
            np.subtract(noise, energy, scratch)
            np.multiply(scratch, weight, scratch)
            np.add(scratch, energy, row)
            np.minimum(row, noise_limit, out=row)  # a stream can start in the middle of a word
            np.maximum(row, _MIN_ENERGY, out=row)
            noise = row
        np.copyto(self._noise, noise)

    def _update_minimum(self, energies: NDArray[Any], *, rotate: bool) -> None:
        """Smooth the band energies over time and track their minimum of the last one to two spans."""
        scratch, smoothed, minimum = self._scratch, self._smoothed, self._minimum
        for energy, smoothed_row, minimum_row in zip(energies, self._smoothed_rows, self._minimum_rows, strict=False):
            np.subtract(smoothed, energy, scratch)
            np.multiply(scratch, SMOOTHING, scratch)
            np.add(scratch, energy, smoothed_row)
            np.minimum(self._next_minimum if rotate else minimum, smoothed_row, out=minimum_row)
            if not rotate:
                np.minimum(self._next_minimum, smoothed_row, out=self._next_minimum)
            smoothed, minimum = smoothed_row, minimum_row
        np.copyto(self._smoothed, smoothed)
        if rotate:
            np.copyto(self._next_minimum, smoothed)
        np.copyto(self._minimum, minimum)

    def _update_presence(self, workspace: _Workspace) -> None:
        """Compare the smoothed energies with a multiple of their minimum and smooth the presence of speech over time."""
        np.multiply(workspace.presence_threshold, PRESENCE_RATIO, workspace.presence_threshold)
        np.greater(workspace.smoothed, workspace.presence_threshold, workspace.is_present)
        np.copyto(workspace.presence, workspace.is_present)  # a product of booleans and floats would allocate memory
        np.multiply(workspace.presence, 1.0 - PRESENCE_SMOOTHING, workspace.presence)
        presence, scratch = self._presence, self._scratch
        for row in self._presence_rows[: len(workspace.presence)]:
            np.multiply(presence, PRESENCE_SMOOTHING, scratch)
            np.add(scratch, row, row)
            presence = row
        np.copyto(self._presence, presence)

    def _attenuate(self, energies: NDArray[Any], workspace: _Workspace) -> None:
        """Multiply the energies by the squared gain; keep the last frame of the result for the a priori SNR of the next."""
        np.subtract(energies, workspace.noise_floor, workspace.scratch_a)
        np.maximum(workspace.scratch_a, 0.0, out=workspace.scratch_a)
        np.multiply(workspace.scratch_a, 1.0 - PRIOR_SMOOTHING, workspace.scratch_a)
        clean, gain = self._clean, self._scratch
        for energy, (prior, noise_floor, out) in zip(energies, self._attenuation_rows, strict=False):
            np.multiply(clean, PRIOR_SMOOTHING, gain)
            np.add(prior, gain, prior)  # a priori SNR times the noise: the noise cancels in the gain
            np.add(prior, noise_floor, gain)
            np.divide(prior, gain, gain)
            np.maximum(gain, GAIN_FLOOR, out=gain)
            np.multiply(gain, gain, gain)
            np.multiply(energy, gain, out)
            clean = out
        np.copyto(self._clean, clean)


def _speech_likelihood(energies: NDArray[Any], workspace: _Workspace) -> NDArray[Any]:
    """Return the mean over the voice bands of g x / (1 + x) - log(1 + x); g is the a posteriori SNR, x the a priori SNR."""
    ratio, prior, scratch = workspace.weight, workspace.scratch_a, workspace.scratch_b
    np.divide(energies, workspace.noise_floor, ratio)
    np.minimum(ratio, MAX_SNR, out=ratio)
    np.divide(workspace.attenuated, workspace.noise_floor, prior)
    np.minimum(prior, MAX_SNR, out=prior)
    np.add(prior, 1.0, scratch)
    np.multiply(ratio, prior, ratio)
    np.divide(ratio, scratch, ratio)
    np.log(scratch, scratch)
    np.subtract(ratio, scratch, ratio)
    np.minimum(ratio, MAX_LOG_LIKELIHOOD, out=ratio)
    np.add.reduce(workspace.voice_weight, axis=-1, out=workspace.frame_sums)
    np.divide(workspace.frame_sums, workspace.voice_weight.shape[-1], workspace.frame_sums)
    return workspace.frame_sums
