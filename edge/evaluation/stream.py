"""Evaluation of RAVDESS clips through the pipeline of the daemon.

The result of a clip is the most frequent label of its events. The evaluation of videos uses `open_pipeline` and
`replay_clip` as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from moodring.capture.base import AudioSource, VideoSource
from moodring.clock import NS_PER_S
from moodring.config import Config, FusionConfig, InferenceConfig, SpeechConfig
from moodring.errors import DataError
from moodring.evaluation.data.readers import read_sound
from moodring.evaluation.engine import Engine, progress
from moodring.evaluation.metrics import classification_metrics
from moodring.evaluation.speech import select_clips
from moodring.fusion import Method
from moodring.inference import bundle as bundles
from moodring.inference.bundle import Bundle
from moodring.labels import CLASSES, INDEX
from moodring.pipeline import Pipeline
from moodring.run.replay import REPLAY_KERNEL, replay
from moodring.types import F32, SAMPLE_RATE_HZ, AudioBlock, EmotionEvent, EventIdentity

BLOCK_SAMPLES = 320  # a block of a microphone: 20 ms
TICK_NS = int(NS_PER_S / FusionConfig().rate_hz)


class _ClipAudioSource:
    """A clip, samples float32 [N], in the blocks of a microphone."""

    def __init__(self, samples: F32) -> None:
        self._samples = samples

    def __iter__(self) -> Iterator[AudioBlock]:
        for start in range(0, self._samples.size, BLOCK_SAMPLES):
            yield AudioBlock(self._samples[start : start + BLOCK_SAMPLES], start * NS_PER_S // SAMPLE_RATE_HZ, SAMPLE_RATE_HZ)

    def close(self) -> None:
        pass


def _add_default_models(bundle: Bundle) -> Bundle:
    """Return a speech-only bundle with the face network and the fusion weights of the default bundle.

    The pipeline needs them, but they do not change the result: there is no face, and decision fusion of one branch is that
    branch's output.
    """
    return dataclasses.replace(bundle, models={**bundles.load(bundles.DEFAULT).models, **bundle.models})


def open_pipeline(engine: Engine, bundle: Bundle, method: Method, stream: str) -> Pipeline:
    """Return a pipeline with default settings except for engine and fusion method; `stream` names it in its events."""
    config = Config(
        speech=SpeechConfig(kernel=REPLAY_KERNEL),
        inference=InferenceConfig(backend=engine.backend, precision=engine.precision),
        fusion=FusionConfig(method=method),
    )
    return Pipeline(config, bundle, EventIdentity(f"/moodring/evaluation/{stream}/0", lambda _: "1970-01-01T00:00:00Z"))


def replay_clip(pipeline: Pipeline, video: VideoSource | None, audio: AudioSource) -> list[EmotionEvent]:
    """Reset the pipeline, replay one clip and return its events."""
    pipeline.reset()
    return [event for _, event in replay(pipeline, video, audio, tick_ns=TICK_NS)]


def evaluate_ravdess(engine: Engine, folder: Path, actors: Sequence[int] | None) -> dict[str, Any]:
    """Evaluate RAVDESS speech clips as streams and return the figures over the clips with a label.

    `accuracy_of_all` counts a clip without a label as wrong. Raises DataError if no clip has one.
    """
    if "fusion" in engine.bundle.models:
        pipeline = open_pipeline(engine, engine.bundle, "feature", "stream")
    else:
        pipeline = open_pipeline(engine, _add_default_models(engine.bundle), "weighted", "stream")
    clips = select_clips(folder, actors)
    label_shares, truth = [], []
    for clip in progress(clips, "clips as a stream"):
        events = replay_clip(pipeline, None, _ClipAudioSource(read_sound(clip.path)))
        counts = np.bincount([INDEX[e.label] for e in events if e.label], minlength=CLASSES)
        if counts.sum():
            label_shares.append(counts / counts.sum())
            truth.append(clip.label)
    if not label_shares:
        raise DataError(f"{folder}: no speech was detected in any clip; check that the recordings are speech")
    figures = classification_metrics(np.stack(label_shares), np.array(truth))
    return figures | {
        "no_answer": len(clips) - len(truth),
        "accuracy_of_all": figures["accuracy"] * len(truth) / len(clips),
        "actors": sorted({clip.actor for clip in clips}),
    }
