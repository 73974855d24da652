"""RAVDESS videos, true pairs of face and voice, through the daemon's own path: a clip's answer is the mean of its events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.capture.media import AudioFile, VideoFile
from moodring.clock import NS_PER_S
from moodring.config import Config, FusionConfig, InferenceConfig, SpeechConfig
from moodring.errors import DataError
from moodring.evaluation.data.readers import RavdessClip, list_ravdess
from moodring.evaluation.engine import Engine, progress
from moodring.evaluation.metrics import classification_metrics
from moodring.evaluation.pairs import merge_calm
from moodring.fusion import Method
from moodring.labels import LABELS
from moodring.pipeline import Pipeline
from moodring.run.replay import replay
from moodring.types import F32, EmotionEvent, EventIdentity

TRUE_PAIRS = "true pairs: face and voice of one recording"


def select_videos(folder: Path, actors: Sequence[int] | None) -> list[RavdessClip]:
    """List the RAVDESS videos with sound (01-01-*.mp4) of the wanted actors; raise DataError where there are none."""
    clips = [clip for clip in list_ravdess(folder, "video") if actors is None or clip.actor in actors]
    if not clips:
        raise DataError(f"{folder}: holds no videos of actor {', '.join(map(str, actors or ()))}")
    return clips


def evaluate_videos(engine: Engine, folder: Path, actors: Sequence[int] | None, method: Method) -> dict[str, Any]:
    """Evaluate both together, and each branch alone, on whole videos.

    The top-level figures are of the clips that got an answer; `no_answer` counts the others, and `both` the share of events
    that rest on face and voice.
    """
    config = Config(
        speech=SpeechConfig(kernel="cv2"),
        inference=InferenceConfig(backend=engine.backend, precision=engine.precision),
        fusion=FusionConfig(method=method),
    )
    identity = EventIdentity("/moodring/evaluation/video/0", lambda _: "1970-01-01T00:00:00Z")
    pipeline = Pipeline(config, engine.bundle, identity)
    clips = select_videos(folder, actors)
    outputs: dict[str, list[F32 | None]] = {"fused": [], "face_alone": [], "speech_alone": []}
    events_of_both = events_in_all = 0
    for clip in progress(clips, "videos"):
        pipeline.reset()
        events: list[EmotionEvent] = []
        tick_ns = int(NS_PER_S / config.fusion.rate_hz)
        with VideoFile(str(clip.path)) as video_file, AudioFile(str(clip.path)) as audio_file:
            replay(pipeline, video_file, audio_file, events.append, tick_ns=tick_ns)
        outputs["fused"].append(_mean_probabilities([event.probabilities for event in events]))
        outputs["face_alone"].append(_mean_probabilities([event.face.probabilities for event in events if event.face]))
        outputs["speech_alone"].append(_mean_probabilities([event.speech.probabilities for event in events if event.speech]))
        events_of_both += sum(len(event.modalities) == 2 for event in events)
        events_in_all += len(events)
    truth = np.array([clip.label for clip in clips], np.int64)
    figures = {name: _clip_metrics(outputs_per_clip, truth) for name, outputs_per_clip in outputs.items()}
    if not figures["fused"]:
        raise DataError(f"{folder}: no face was found and nobody was heard in any video")
    return figures["fused"] | {
        "pairing": TRUE_PAIRS,
        "method": method,
        "actors": sorted({clip.actor for clip in clips}),
        "both": events_of_both / max(1, events_in_all),
        "face_alone": figures["face_alone"],
        "speech_alone": figures["speech_alone"],
    }


def _mean_probabilities(distributions: Sequence[Mapping[str, float] | None]) -> F32 | None:
    rows = [[distribution.get(label, 0.0) for label in LABELS] for distribution in distributions if distribution is not None]
    return np.asarray(np.mean(rows, axis=0), np.float32) if rows else None


def _clip_metrics(outputs_per_clip: Sequence[F32 | None], truth: NDArray[np.int64]) -> dict[str, Any]:
    """Return the figures over the clips that were answered, and how many were not; nothing where none was."""
    answered = np.array([output is not None for output in outputs_per_clip])
    if not answered.any():
        return {}
    rows = np.stack([output for output in outputs_per_clip if output is not None])
    return classification_metrics(rows, truth[answered]) | {
        "no_answer": int((~answered).sum()),
        "merged_calm": classification_metrics(*merge_calm(rows, truth[answered])),
    }
