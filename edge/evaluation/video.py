"""Evaluation of RAVDESS videos, true pairs of face and voice, through the pipeline of the daemon.

The result of a clip is the mean of the probabilities of its events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.capture.media import AudioFile, VideoFile
from moodring.errors import DataError
from moodring.evaluation.data.readers import RavdessClip, list_ravdess
from moodring.evaluation.engine import Engine, progress
from moodring.evaluation.metrics import classification_metrics
from moodring.evaluation.pairs import merge_calm
from moodring.evaluation.stream import open_pipeline, replay_clip
from moodring.fusion import Method
from moodring.labels import LABELS
from moodring.types import F32

TRUE_PAIRS = "true pairs: face and voice of one recording"


def select_videos(folder: Path, actors: Sequence[int] | None) -> list[RavdessClip]:
    """List the RAVDESS videos with sound (01-01-*.mp4) of these actors (None: all). Raises DataError if there are none."""
    clips = [clip for clip in list_ravdess(folder, "video") if actors is None or clip.actor in actors]
    if not clips:
        raise DataError(f"{folder}: holds no videos of actor {', '.join(map(str, actors or ()))}")
    return clips


def evaluate_videos(engine: Engine, folder: Path, actors: Sequence[int] | None, method: Method) -> dict[str, Any]:
    """Evaluate the fused output and each branch alone on complete videos.

    The top-level figures cover the clips with a fused output; `no_answer` counts the others. `both` is the share of events that
    use face and voice. Raises DataError if no clip has a fused output.
    """
    pipeline = open_pipeline(engine, engine.bundle, method, "video")
    clips = select_videos(folder, actors)
    outputs: dict[str, list[F32 | None]] = {"fused": [], "face_alone": [], "speech_alone": []}
    events_with_both = event_count = 0
    for clip in progress(clips, "videos"):
        with VideoFile(str(clip.path)) as video_file, AudioFile(str(clip.path)) as audio_file:
            events = replay_clip(pipeline, video_file, audio_file)
        outputs["fused"].append(_mean_probabilities([event.probabilities for event in events]))
        outputs["face_alone"].append(_mean_probabilities([event.face.probabilities for event in events if event.face]))
        outputs["speech_alone"].append(_mean_probabilities([event.speech.probabilities for event in events if event.speech]))
        events_with_both += sum(len(event.modalities) == 2 for event in events)
        event_count += len(events)
    truth = np.array([clip.label for clip in clips], np.int64)
    figures = {name: _clip_metrics(outputs_per_clip, truth) for name, outputs_per_clip in outputs.items()}
    if not figures["fused"]:
        raise DataError(f"{folder}: neither a face nor speech was detected in any video")
    return figures["fused"] | {
        "pairing": TRUE_PAIRS,
        "method": method,
        "actors": sorted({clip.actor for clip in clips}),
        "both": events_with_both / max(1, event_count),
        "face_alone": figures["face_alone"],
        "speech_alone": figures["speech_alone"],
    }


def _mean_probabilities(distributions: Sequence[Mapping[str, float] | None]) -> F32 | None:
    rows = [[distribution.get(label, 0.0) for label in LABELS] for distribution in distributions if distribution is not None]
    return np.asarray(np.mean(rows, axis=0), np.float32) if rows else None


def _clip_metrics(outputs_per_clip: Sequence[F32 | None], truth: NDArray[np.int64]) -> dict[str, Any]:
    """Return the metrics over the clips with an output and the number of the others; {} if no clip has an output."""
    answered = np.array([output is not None for output in outputs_per_clip])
    if not answered.any():
        return {}
    rows = np.stack([output for output in outputs_per_clip if output is not None])
    return classification_metrics(rows, truth[answered]) | {
        "no_answer": int((~answered).sum()),
        "merged_calm": classification_metrics(*merge_calm(rows, truth[answered])),
    }
