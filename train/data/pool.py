"""The pool: changed versions of every recording as log mel energies, made once and shared by every fold and seed.

What acts on sound costs far more than the network's own step, so it is done here, `versions` times for each recording; an
epoch then draws among the versions and changes their spectra anew. No labels and no actors play a part in making it.
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

F16 = NDArray[np.float16]
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

POOL_SEED = 5
NONSPEECH_SOUNDS = 2000
VALIDATION_SOUNDS = 200  # of these, never trained on
FULL_WINDOW_SHARE = 0.7  # the share of windows that reach as far back as they can, as all of the runtime's do


@dataclass(frozen=True, slots=True)
class AugmentedPool:
    """`log_mel` [frames, filters (and pitch)]: all sounds, one after another. Sound i is bounds[i] .. bounds[i + 1], at
    speed[i].

    The voices come first, version by version within a recording, then the sounds that are no speech.
    """

    log_mel: F16
    bounds: I64
    speed: NDArray[np.float64]

    def sound(self, index: int) -> F16:
        return self.log_mel[self.bounds[index] : self.bounds[index + 1]]


def _generate_sounds(
    recipe: SpeechRecipe, voices: Sequence[Utterance], augmenter: SoundAugmenter
) -> Iterator[tuple[F32, float]]:
    """Draw every sound of the pool, in its order. A recording's first version is the recording itself."""
    for row, voice in enumerate(voices):
        yield voice.samples, 1.0
        for version in range(1, recipe.versions):
            yield augmenter.voice(voice.samples, np.random.default_rng([POOL_SEED, row, version]))
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
    """Hash all that a pool depends on."""
    snr_db = tuple(recipe.snr_db)  # a list where the recipe comes from a card
    changes = (recipe.versions, recipe.speed, recipe.room, recipe.band_limit, recipe.noise, snr_db, recipe.gain_db)
    digest = hashlib.sha256(repr((spec, changes, POOL_SEED, NONSPEECH_SOUNDS)).encode())
    for samples in (*(voice.samples for voice in voices), *noises):
        digest.update(samples.tobytes())
    return digest.hexdigest()[:16]


def open_pool(
    recipe: SpeechRecipe, spec: SpeechSpec, voices: Sequence[Utterance], noises: list[F32], cache: Path
) -> AugmentedPool:
    """Open the pool in the folder `cache`, after making it where it is not there yet (two minutes, under 1 GB)."""
    cache.mkdir(parents=True, exist_ok=True)
    stem = f"pool-{_cache_key(recipe, spec, voices, noises)}"
    frames_path, index_path = cache / f"{stem}.f16", cache / f"{stem}.npz"
    if not index_path.is_file():
        lengths: list[int] = []
        speeds: list[float] = []

        def write(part: Path) -> None:
            with part.open("wb") as file:
                for group in _batched(_generate_sounds(recipe, voices, SoundAugmenter(recipe, spec, noises))):
                    for mel in run_front_end([samples for samples, _ in group], spec)[0]:
                        file.write(mel.astype(np.float16).tobytes())
                        lengths.append(len(mel))
                    speeds.extend(speed for _, speed in group)

        print(f"making a pool of {len(voices)} x {recipe.versions} voices and {NONSPEECH_SOUNDS} other sounds", flush=True)
        write_atomically(frames_path, write)
        index = {"bounds": np.concatenate([[0], np.cumsum(lengths)]), "speed": np.array(speeds)}

        def write_index(part: Path) -> None:
            with part.open("wb") as file:
                np.savez(file, **index)

        write_atomically(index_path, write_index)
    with np.load(index_path) as index_file:
        bounds, speed = index_file["bounds"], index_file["speed"]
    shape = (int(bounds[-1]), spec.mfcc.filters + PITCH_COLUMNS * spec.pitch)
    return AugmentedPool(np.memmap(frames_path, np.float16, "r", shape=shape), bounds, speed)


class WindowSampler:
    """Draws network inputs float32 [N, window_frames, columns] from a pool of `voices` and other sounds."""

    def __init__(self, pool: AugmentedPool, recipe: SpeechRecipe, spec: SpeechSpec, voices: Sequence[Utterance]) -> None:
        self._pool = pool
        self._recipe = recipe
        self._spec = spec
        self._ends = [voice.ends for voice in voices]
        self._augmenter = MelAugmenter(recipe, spec)

    def voices(self, rows: Sequence[int], rng: np.random.Generator) -> F32:
        """Draw one window of each of these recordings, by their numbers."""
        return self._augmenter.windows([self._speech_mel(row, rng) for row in rows], rng)

    def nonspeech(self, count: int, rng: np.random.Generator, *, validation: bool = False) -> F32:
        """Draw windows of silence, noise, recorded sounds or music-like tones; some sounds are kept for validation."""
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
