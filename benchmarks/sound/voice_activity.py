"""Precision and recall of voice activity detection per 10 ms frame, on recordings mixed with noise.

    python -m benchmarks voice_activity --ravdess DIR --noise DIR [--json FILE]

The reference comes from the clean recording: a frame is speech if its level is within 35 dB of the clip's loudest frame. Every
twelfth clip of the actors is used, mixed with each noise recording at signal-to-noise ratios of 20, 10, 5 and 0 dB. The
committed figures are in docs/benchmarks/voice_activity.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import machine, write_json
from moodring.evaluation.data.readers import list_ravdess, read_sound
from moodring.evaluation.speech import list_noise, mix_noise
from moodring.features.audio.mfcc import Mfcc
from moodring.features.audio.voice_activity import VoiceActivityDetector, voice_bands
from moodring.features.audio.window import make_mfcc
from moodring.features.spec import SpeechSpec
from moodring.types import F32

SPEECH_WITHIN_DB = 35.0
CLIP_STRIDE = 12
SNR_DB = (20.0, 10.0, 5.0, 0.0)
Frames = NDArray[np.bool_]  # [frames]: speech or not


def reference_speech(clean: F32, spec: SpeechSpec) -> Frames:
    """Return the frames of a clean recording, float32 [N] at 16 kHz, that are speech by their level."""
    mfcc = Mfcc(spec.mfcc)
    mfcc.push(clean)
    level_db = 10.0 * np.log10(np.exp(mfcc.log_mel[:, voice_bands(spec.mfcc)]).sum(axis=1))
    return np.asarray(level_db > level_db.max() - SPEECH_WITHIN_DB)


def detected_speech(sound: F32, spec: SpeechSpec) -> Frames:
    """Return the frames of a recording, float32 [N] at 16 kHz, that the detector takes for speech."""
    mfcc = make_mfcc(spec)
    mfcc.push(sound)
    return VoiceActivityDetector(spec.mfcc).update(mfcc.log_mel, mfcc.likelihood)


def precision_recall(found: Sequence[Frames], truth: Sequence[Frames]) -> dict[str, float]:
    """Return precision, recall and F1 over the frames of all clips."""
    hits = sum(int((f & t).sum()) for f, t in zip(found, truth, strict=True))
    precision = hits / max(1, sum(int(f.sum()) for f in found))
    recall = hits / max(1, sum(int(t.sum()) for t in truth))
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / max(1e-9, precision + recall)}


def measure(ravdess: Path, noise: Path) -> dict[str, Any]:
    """Measure the detector on the clips of `ravdess` mixed with the recordings of `noise`, and on noise alone."""
    spec = SpeechSpec()
    sounds = [read_sound(clip.path) for clip in list_ravdess(ravdess)[::CLIP_STRIDE]]
    truth = [reference_speech(sound, spec) for sound in sounds]
    by_noise = {
        path.stem: {
            f"{snr:g}": precision_recall([detected_speech(s, spec) for s in mix_noise(sounds, read_sound(path), snr)], truth)
            for snr in SNR_DB
        }
        for path in list_noise(noise)
    }
    noise_only = {path.stem: float(detected_speech(read_sound(path), spec).mean()) for path in list_noise(noise)}
    return {
        "benchmark": "voice_activity",
        "machine": machine(),
        "clips": len(sounds),
        "speech_share": float(np.mean([t.mean() for t in truth])),
        "clean": precision_recall([detected_speech(s, spec) for s in sounds], truth),
        "by_noise": by_noise,
        "mean_by_snr": {
            f"{snr:g}": {
                name: float(np.mean([by_noise[n][f"{snr:g}"][name] for n in by_noise]))
                for name in ("precision", "recall", "f1")
            }
            for snr in SNR_DB
        },
        "noise_alone_called_speech": noise_only,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the detector and write the figures; return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks voice_activity", description=__doc__.splitlines()[0])
    parser.add_argument("--ravdess", type=Path, required=True, metavar="DIR", help="the RAVDESS recordings")
    parser.add_argument("--noise", type=Path, required=True, metavar="DIR", help="the noise recordings")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    arguments = parser.parse_args(argv)
    write_json(measure(arguments.ravdess, arguments.noise), arguments.json)
    return 0
