"""A cached pool of augmented versions of every recording, as log mel energies; all folds and seeds share it.

Augmentation of sound costs far more than a training step. The pool therefore holds `versions` versions of each recording. An
epoch draws among them and augments their log mel energies again. Neither labels nor splits have an effect on the pool. Each
corpus has files of its own: after an interruption, the corpora that are complete are not written again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moodring.features.audio.baseline import BaselineInfo
from moodring.features.spec import PITCH_COLUMNS, SpeechSpec
from moodring.train.data.augment_mel import MelAugmenter
from moodring.train.data.augment_sound import SoundAugmenter
from moodring.train.data.speaker_means import VoiceMeans, sum_voiced_frames
from moodring.train.data.voices import DENOISE_BATCH, Utterance, run_front_end
from moodring.train.loop import progress, write_atomically
from moodring.train.recipe import SpeechRecipe
from moodring.types import F32

F16 = NDArray[np.float16]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Sound = tuple[F32, float]  # samples, and their speed relative to the recording

POOL_SEED = 5
NONSPEECH_SOUNDS = 2000
VALIDATION_SOUNDS = 200  # of NONSPEECH_SOUNDS, held out
NONSPEECH = "nonspeech"
FULL_WINDOW_SHARE = 0.7  # share of windows with the maximum length, which all windows of the runtime have


@dataclass(frozen=True, slots=True)
class PoolPart:
    """Sounds one after another: `log_mel` float16 [frames, filters], with two more columns if the spec has pitch.

    Sound i has the frames bounds[i] .. bounds[i + 1] and the speed speed[i] relative to its recording. `sums` and `voiced` are
    those of `sum_voiced_frames`.
    """

    log_mel: F16
    bounds: I64
    speed: F64
    sums: F64
    voiced: I64

    def sound(self, index: int) -> F16:
        """Return the frames of one sound."""
        return self.log_mel[self.bounds[index] : self.bounds[index + 1]]


@dataclass(frozen=True, slots=True)
class AugmentedPool:
    """The parts of the corpora, in the order of their recordings, with all versions of a recording together; and non-speech."""

    speech: tuple[PoolPart, ...]
    nonspeech: PoolPart

    def speech_sound(self, index: int) -> F16:
        """Return the frames of one version of a recording."""
        for part in self.speech:
            if index < len(part.speed):
                return part.sound(index)
            index -= len(part.speed)
        raise IndexError(f"the pool has no sound {index}")

    @property
    def speed(self) -> F64:
        """The speed of each version of each recording."""
        return np.concatenate([part.speed for part in self.speech])

    @property
    def sums(self) -> F64:
        """The sums of the voiced frames of each version of each recording."""
        return np.concatenate([part.sums for part in self.speech])

    @property
    def voiced(self) -> I64:
        """The number of voiced frames of each version of each recording."""
        return np.concatenate([part.voiced for part in self.speech])


def _speech_sounds(recipe: SpeechRecipe, voices: Sequence[Utterance], augmenter: SoundAugmenter) -> Iterator[Sound]:
    """Yield the versions of each recording. The first version is the recording itself.

    In another version, all recordings of a speaker have the same room, noise and codec, as recordings of one session.
    """
    for voice in voices:
        yield voice.samples, 1.0
        for version in range(1, recipe.versions):
            yield augmenter.augment_speech(voice.samples, np.random.default_rng([POOL_SEED, version, *voice.speaker.encode()]))


def _nonspeech_sounds(augmenter: SoundAugmenter) -> Iterator[Sound]:
    for row in range(NONSPEECH_SOUNDS):
        yield augmenter.nonspeech(np.random.default_rng([POOL_SEED, row])), 1.0


def _batched(sounds: Iterable[Sound]) -> Iterator[list[Sound]]:
    group: list[Sound] = []
    for sound in sounds:
        group.append(sound)
        if len(group) == DENOISE_BATCH:
            yield group
            group = []
    if group:
        yield group


def _cache_key(recipe: SpeechRecipe, spec: SpeechSpec, voices: Sequence[Utterance], noises: Sequence[F32]) -> str:
    """Return the hash of everything that a part of the pool depends on."""
    snr_db = tuple(recipe.snr_db)  # a recipe from a card holds a list
    changes = (recipe.versions, recipe.speed, recipe.room, recipe.band_limit, recipe.noise, snr_db, recipe.gain_db)
    codecs = (recipe.hum, recipe.codec, recipe.packet_loss)
    digest = hashlib.sha256(repr((spec, changes, codecs, POOL_SEED, NONSPEECH_SOUNDS)).encode())
    for samples in (*(voice.samples for voice in voices), *noises):
        digest.update(samples.tobytes())
    return digest.hexdigest()[:16]


def _write_part(sounds: Iterable[Sound], count: int, spec: SpeechSpec, frames_path: Path, index_path: Path) -> None:
    """Write the log mel energies of the sounds, then the index: a part without an index is incomplete."""
    lengths: list[int] = []
    speeds: list[float] = []
    sums: list[F64] = []
    voiced: list[int] = []

    def write_frames(part: Path) -> None:
        with part.open("wb") as file, progress(frames_path.stem, count) as advance:
            for group in _batched(sounds):
                for mel, likelihood in zip(*run_front_end([samples for samples, _ in group], spec), strict=True):
                    file.write(mel.astype(np.float16).tobytes())
                    lengths.append(len(mel))
                    total, frames = sum_voiced_frames(mel, likelihood, spec)
                    sums.append(total)
                    voiced.append(frames)
                    advance()
                speeds.extend(speed for _, speed in group)

    def write_index(part: Path) -> None:
        bounds = np.concatenate([[0], np.cumsum(lengths)])
        with part.open("wb") as file:
            np.savez(file, bounds=bounds, speed=np.array(speeds), sums=np.array(sums), voiced=np.array(voiced))

    write_atomically(frames_path, write_frames)
    write_atomically(index_path, write_index)


def open_pool(
    recipe: SpeechRecipe, spec: SpeechSpec, voices: Sequence[Utterance], noises: list[F32], cache: Path
) -> AugmentedPool:
    """Open the pool in the folder `cache`; write the parts that are missing first.

    A version of an hour of sound takes about a minute and 30 MB. `voices` must be ordered by corpus.
    """
    cache.mkdir(parents=True, exist_ok=True)
    augmenter = SoundAugmenter(recipe, spec, noises)
    parts = []
    for corpus, group in groupby(voices, lambda voice: voice.corpus):
        own = list(group)
        sounds = _speech_sounds(recipe, own, augmenter)
        stem = f"pool-{corpus}-{_cache_key(recipe, spec, own, noises)}"
        parts.append(_open_part(sounds, len(own) * recipe.versions, spec, cache / stem))
    stem = f"pool-{NONSPEECH}-{_cache_key(recipe, spec, (), noises)}"
    nonspeech = _open_part(_nonspeech_sounds(augmenter), NONSPEECH_SOUNDS, spec, cache / stem)
    return AugmentedPool(tuple(parts), nonspeech)


def _open_part(sounds: Iterable[Sound], count: int, spec: SpeechSpec, stem: Path) -> PoolPart:
    frames_path, index_path = stem.with_suffix(".f16"), stem.with_suffix(".npz")
    if not index_path.is_file():
        print(f"{frames_path}: writing {count} sounds", flush=True)
        _write_part(sounds, count, spec, frames_path, index_path)
    with np.load(index_path) as index:
        bounds, speed, sums, voiced = (index[name] for name in ("bounds", "speed", "sums", "voiced"))
    shape = (int(bounds[-1]), spec.mfcc.filters + PITCH_COLUMNS * spec.pitch)
    return PoolPart(np.memmap(frames_path, np.float16, "r", shape=shape), bounds, speed, sums, voiced)


class WindowSampler:
    """Draws augmented network inputs float32 [N, window_frames, columns] from the pool of `voices`.

    With `baseline`, that of the training speakers, the baseline of the speaker is subtracted from a share of the windows.
    """

    def __init__(
        self,
        pool: AugmentedPool,
        recipe: SpeechRecipe,
        spec: SpeechSpec,
        voices: Sequence[Utterance],
        baseline: BaselineInfo | None = None,
    ) -> None:
        self._pool = pool
        self._recipe = recipe
        self._spec = spec
        self._ends = [voice.ends for voice in voices]
        self._speed = pool.speed
        self._means = None if baseline is None else VoiceMeans(pool.sums, pool.voiced, voices, recipe.versions)
        self._augmenter = MelAugmenter(recipe, spec, baseline)

    def draw_speech(self, rows: Sequence[int], rng: np.random.Generator) -> F32:
        """Return one window of each of these recordings; `rows` are indices into `voices`."""
        versions = [self._draw_version(rng) for _ in rows]
        mels = [self._speech_mel(row, version, rng) for row, version in zip(rows, versions, strict=True)]
        if self._means is None:
            return self._augmenter.windows(mels, rng)
        draws = rng.random(len(rows)) < self._recipe.baseline
        means = [
            self._means.draw(row, version, rng) if is_drawn else None
            for row, version, is_drawn in zip(rows, versions, draws, strict=True)
        ]
        return self._augmenter.windows(mels, rng, means)

    def draw_nonspeech(self, count: int, rng: np.random.Generator, *, validation: bool = False) -> F32:
        """Return `count` windows of non-speech sounds: the training sounds, or the held-out ones with `validation`."""
        edge = NONSPEECH_SOUNDS - VALIDATION_SOUNDS
        chosen = rng.integers(edge, NONSPEECH_SOUNDS, count) if validation else rng.integers(0, edge, count)
        return self._augmenter.windows([self._nonspeech_mel(int(index), rng) for index in chosen], rng)

    def _draw_version(self, rng: np.random.Generator) -> int:
        return 0 if rng.random() < self._recipe.original else int(rng.integers(self._recipe.versions))

    def _speech_mel(self, row: int, version: int, rng: np.random.Generator) -> F32:
        index = row * self._recipe.versions + version
        sound = self._pool.speech_sound(index)
        end = min(len(sound), max(1, round(int(rng.choice(self._ends[row])) / self._speed[index])))
        max_frames = min(self._spec.window_frames, end)
        mfcc = self._spec.mfcc
        min_frames_drawn = min(max_frames, int(self._recipe.shortest_s * mfcc.rate_hz / mfcc.hop_samples))
        frames = max_frames if rng.random() < FULL_WINDOW_SHARE else int(rng.integers(min_frames_drawn, max_frames + 1))
        return sound[end - frames : end].astype(np.float32)

    def _nonspeech_mel(self, index: int, rng: np.random.Generator) -> F32:
        sound = self._pool.nonspeech.sound(index)
        frames = int(rng.integers(self._spec.min_frames, self._spec.window_frames + 1))
        end = int(rng.integers(frames, len(sound) + 1))
        return sound[end - frames : end].astype(np.float32)
