"""RAVDESS clips through the daemon's own path: a clip's answer is the majority of its events."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moodring.clock import NS_PER_S
from moodring.config import Config, FusionConfig, InferenceConfig, SpeechConfig
from moodring.errors import DataError
from moodring.evaluation.data.readers import read_sound
from moodring.evaluation.engine import Engine, progress
from moodring.evaluation.metrics import classification_metrics
from moodring.evaluation.speech import select_clips
from moodring.inference import bundle as bundles
from moodring.inference.bundle import Bundle
from moodring.labels import CLASSES, INDEX
from moodring.pipeline import Pipeline
from moodring.run.replay import replay
from moodring.types import F32, AudioBlock, EmotionEvent, EventIdentity

BLOCK_SAMPLES = 320  # what a microphone gives at once: 20 ms
RATE_HZ = 16_000


class _ClipAudioSource:
    """A clip as the microphone would have given it."""

    def __init__(self, samples: F32) -> None:
        self._samples = samples

    def __iter__(self) -> Iterator[AudioBlock]:
        for start in range(0, self._samples.size, BLOCK_SAMPLES):
            yield AudioBlock(self._samples[start : start + BLOCK_SAMPLES], start * NS_PER_S // RATE_HZ, RATE_HZ)

    def close(self) -> None:
        pass


def _add_default_models(bundle: Bundle) -> Bundle:
    """Lend a bundle made for voices alone the shipped face network, which sees nothing here, and the shipped weights.

    Decision fusion of a voice alone is the voice's own answer.
    """
    return dataclasses.replace(bundle, models={**bundles.load(bundles.DEFAULT).models, **bundle.models})


def evaluate_ravdess(engine: Engine, folder: Path, actors: Sequence[int] | None) -> dict[str, Any]:
    """Evaluate clips event by event. Figures are over the clips answered; `accuracy_of_all` counts silence as wrong."""
    has_fusion = "fusion" in engine.bundle.models
    config = Config(
        speech=SpeechConfig(kernel="cv2"),
        inference=InferenceConfig(backend=engine.backend, precision=engine.precision),
        fusion=FusionConfig() if has_fusion else FusionConfig(method="weighted"),
    )
    bundle = engine.bundle if has_fusion else _add_default_models(engine.bundle)
    identity = EventIdentity("/moodring/evaluation/stream/0", lambda _: "1970-01-01T00:00:00Z")
    clips = select_clips(folder, actors)
    label_shares, truth = [], []
    pipeline = Pipeline(config, bundle, identity)
    for clip in progress(clips, "clips as a stream"):
        pipeline.reset()
        events: list[EmotionEvent] = []
        tick_ns = int(NS_PER_S / config.fusion.rate_hz)
        replay(pipeline, None, _ClipAudioSource(read_sound(clip.path)), events.append, tick_ns=tick_ns)
        counts = np.bincount([INDEX[e.label] for e in events if e.label], minlength=CLASSES)
        if counts.sum():
            label_shares.append(counts / counts.sum())
            truth.append(clip.label)
    if not label_shares:
        raise DataError(f"{folder}: nobody was heard to speak in any clip")
    figures = classification_metrics(np.stack(label_shares), np.array(truth))
    return figures | {
        "no_answer": len(clips) - len(truth),
        "accuracy_of_all": figures["accuracy"] * len(truth) / len(clips),
        "actors": sorted({clip.actor for clip in clips}),
    }
