"""How well does voice activity find speech in noise? Precision and recall per 10 ms frame, on recordings mixed with noise.

    python -m benchmarks.voice_activity --ravdess DIR --noise DIR [--json FILE]

Truth comes from the clean recording alone: a frame is speech where it is within 35 dB of the clip's loudest frame. Every
twelfth clip of the actors is used, mixed with each noise recording at 20, 10, 5 and 0 dB.
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
Frames = NDArray[np.bool_]


def reference_speech(clean: F32, spec: SpeechSpec) -> Frames:
    """Say of each frame of a clean recording whether it is speech, by its level alone."""
    mfcc = Mfcc(spec.mfcc)
    mfcc.push(clean)
    level_db = 10.0 * np.log10(np.exp(mfcc.log_mel[:, voice_bands(spec.mfcc)]).sum(axis=1))
    return level_db > level_db.max() - SPEECH_WITHIN_DB


def detected_speech(sound: F32, spec: SpeechSpec) -> Frames:
    mfcc = make_mfcc(spec)
    mfcc.push(sound)
    return VoiceActivityDetector(spec.mfcc).update(mfcc.log_mel, mfcc.likelihood)


def precision_recall(found: Sequence[Frames], truth: Sequence[Frames]) -> dict[str, float]:
    hits = sum(int((f & t).sum()) for f, t in zip(found, truth, strict=True))
    precision = hits / max(1, sum(int(f.sum()) for f in found))
    recall = hits / max(1, sum(int(t.sum()) for t in truth))
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / max(1e-9, precision + recall)}


def measure(ravdess: Path, noise: Path) -> dict[str, Any]:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ravdess", type=Path, required=True)
    parser.add_argument("--noise", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    write_json(measure(arguments.ravdess, arguments.noise), arguments.json)


if __name__ == "__main__":
    main()
