"""A cached pool of augmented versions of every recording, as log mel energies; all folds and seeds share it.

Augmentation of sound costs far more than a training step. The pool therefore holds `versions` versions of each recording. An
epoch draws among them and augments their log mel energies again. Neither labels nor actors have an effect on the pool.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moodring.features.spec import PITCH_COLUMNS, SpeechSpec
from moodring.train.data.augment_mel import MelAugmenter
from moodring.train.data.augment_sound import SoundAugmenter
from moodring.train.data.voices import DENOISE_BATCH, Utterance, run_front_end
from moodring.train.loop import write_atomically
from moodring.train.recipe import SpeechRecipe
from moodring.types import F32

F16 = NDArray[np.float16]
I64 = NDArray[np.int64]

POOL_SEED = 5
NONSPEECH_SOUNDS = 2000
VALIDATION_SOUNDS = 200  # of NONSPEECH_SOUNDS, held out
FULL_WINDOW_SHARE = 0.7  # share of windows with the maximum length, which all windows of the runtime have


@dataclass(frozen=True, slots=True)
class AugmentedPool:
    """All sounds one after another: `log_mel` float16 [frames, filters], with two more columns if the spec has pitch.

    Sound i has the frames bounds[i] .. bounds[i + 1] and the speed speed[i] relative to its recording. The versions of each
    recording come first, then the non-speech sounds.
    """

    log_mel: F16
    bounds: I64
    speed: NDArray[np.float64]

    def sound(self, index: int) -> F16:
        """Return the frames of one sound."""
        return self.log_mel[self.bounds[index] : self.bounds[index + 1]]


def _generate_sounds(
    recipe: SpeechRecipe, voices: Sequence[Utterance], augmenter: SoundAugmenter
) -> Iterator[tuple[F32, float]]:
    """Yield the samples and the speed of every sound, in the order of the pool. The first version is the recording itself."""
    for row, voice in enumerate(voices):
        yield voice.samples, 1.0
        for version in range(1, recipe.versions):
            yield augmenter.augment_speech(voice.samples, np.random.default_rng([POOL_SEED, row, version]))
    for row in range(NONSPEECH_SOUNDS):
        yield augmenter.nonspeech(np.random.default_rng([POOL_SEED, row])), 1.0


def _batched(sounds: Iterable[tuple[F32, float]]) -> Iterator[list[tuple[F32, float]]]:
    group: list[tuple[F32, float]] = []
    for sound in sounds:
        group.append(sound)
        if len(group) == DENOISE_BATCH:
            yield group
            group = []
    if group:
        yield group


def _cache_key(recipe: SpeechRecipe, spec: SpeechSpec, voices: Sequence[Utterance], noises: Sequence[F32]) -> str:
    """Return the hash of everything that a pool depends on."""
    snr_db = tuple(recipe.snr_db)  # a recipe from a card holds a list
    changes = (recipe.versions, recipe.speed, recipe.room, recipe.band_limit, recipe.noise, snr_db, recipe.gain_db)
    digest = hashlib.sha256(repr((spec, changes, POOL_SEED, NONSPEECH_SOUNDS)).encode())
    for samples in (*(voice.samples for voice in voices), *noises):
        digest.update(samples.tobytes())
    return digest.hexdigest()[:16]


def _write_pool(sounds: Iterable[tuple[F32, float]], spec: SpeechSpec, frames_path: Path, index_path: Path) -> None:
    """Write the log mel energies of the sounds, then the index: a pool without an index is incomplete."""
    lengths: list[int] = []
    speeds: list[float] = []

    def write_frames(part: Path) -> None:
        with part.open("wb") as file:
            for group in _batched(sounds):
                for mel in run_front_end([samples for samples, _ in group], spec)[0]:
                    file.write(mel.astype(np.float16).tobytes())
                    lengths.append(len(mel))
                speeds.extend(speed for _, speed in group)

    def write_index(part: Path) -> None:
        with part.open("wb") as file:
            np.savez(file, bounds=np.concatenate([[0], np.cumsum(lengths)]), speed=np.array(speeds))

    write_atomically(frames_path, write_frames)
    write_atomically(index_path, write_index)


def open_pool(
    recipe: SpeechRecipe, spec: SpeechSpec, voices: Sequence[Utterance], noises: list[F32], cache: Path
) -> AugmentedPool:
    """Open the pool in the folder `cache`; create it first if it is missing (two minutes, less than 1 GB)."""
    cache.mkdir(parents=True, exist_ok=True)
    stem = f"pool-{_cache_key(recipe, spec, voices, noises)}"
    frames_path, index_path = cache / f"{stem}.f16", cache / f"{stem}.npz"
    if not index_path.is_file():
        print(
            f"{frames_path}: writing the pool of {len(voices)} recordings in {recipe.versions} versions and {NONSPEECH_SOUNDS} "
            "non-speech sounds",
            flush=True,
        )
        _write_pool(_generate_sounds(recipe, voices, SoundAugmenter(recipe, spec, noises)), spec, frames_path, index_path)
    with np.load(index_path) as index_file:
        bounds, speed = index_file["bounds"], index_file["speed"]
    shape = (int(bounds[-1]), spec.mfcc.filters + PITCH_COLUMNS * spec.pitch)
    return AugmentedPool(np.memmap(frames_path, np.float16, "r", shape=shape), bounds, speed)


class WindowSampler:
    """Draws augmented network inputs float32 [N, window_frames, columns] from the pool of `voices`."""

    def __init__(self, pool: AugmentedPool, recipe: SpeechRecipe, spec: SpeechSpec, voices: Sequence[Utterance]) -> None:
        self._pool = pool
        self._recipe = recipe
        self._spec = spec
        self._ends = [voice.ends for voice in voices]
        self._augmenter = MelAugmenter(recipe, spec)

    def draw_speech(self, rows: Sequence[int], rng: np.random.Generator) -> F32:
        """Return one window of each of these recordings; `rows` are indices into `voices`."""
        return self._augmenter.windows([self._speech_mel(row, rng) for row in rows], rng)

    def draw_nonspeech(self, count: int, rng: np.random.Generator, *, validation: bool = False) -> F32:
        """Return `count` windows of non-speech sounds: the training sounds, or the held-out ones with `validation`."""
        edge = NONSPEECH_SOUNDS - VALIDATION_SOUNDS
        chosen = rng.integers(edge, NONSPEECH_SOUNDS, count) if validation else rng.integers(0, edge, count)
        return self._augmenter.windows([self._nonspeech_mel(int(index), rng) for index in chosen], rng)

    def _speech_mel(self, row: int, rng: np.random.Generator) -> F32:
        index = row * self._recipe.versions + int(rng.integers(self._recipe.versions))
        sound = self._pool.sound(index)
        end = min(len(sound), max(1, round(int(rng.choice(self._ends[row])) / self._pool.speed[index])))
        max_frames = min(self._spec.window_frames, end)
        mfcc = self._spec.mfcc
        min_frames_drawn = min(max_frames, int(self._recipe.shortest_s * mfcc.rate_hz / mfcc.hop_samples))
        frames = max_frames if rng.random() < FULL_WINDOW_SHARE else int(rng.integers(min_frames_drawn, max_frames + 1))
        return sound[end - frames : end].astype(np.float32)

    def _nonspeech_mel(self, index: int, rng: np.random.Generator) -> F32:
        sound = self._pool.sound(len(self._ends) * self._recipe.versions + index)
        frames = int(rng.integers(self._spec.min_frames, self._spec.window_frames + 1))
        end = int(rng.integers(frames, len(sound) + 1))
        return sound[end - frames : end].astype(np.float32)
