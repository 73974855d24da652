"""Cost of the high-pass filter, and the share of answers that an offset, hum or rumble changes with and without it.

    python -m benchmarks high_pass --ravdess DIR [--bundle DIR] [--json FILE]

Every twelfth clip is disturbed; the answer for a disturbed clip is compared with that of the same network and front end
for the clean clip. The committed figures are in docs/benchmarks/high_pass.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import machine, write_json
from moodring.evaluation.data.readers import list_ravdess, read_sound
from moodring.evaluation.engine import Engine
from moodring.evaluation.speech import clip_mean, clip_outputs
from moodring.features.audio.window import SpeechFrontEnd
from moodring.features.spec import SpeechSpec
from moodring.inference.branches import SpeechBranch
from moodring.inference.bundle import DEFAULT
from moodring.inference.bundle import load as load_bundle
from moodring.types import F32, AudioBlock

CLIP_STRIDE = 12
CUTOFF_HZ = 100.0
BLOCK_SAMPLES = 800
ROUNDS = 20


def _tone(samples: F32, hz: Sequence[float], level: float) -> F32:
    time_s = np.arange(samples.size) / 16_000
    waves = sum(np.sin(2 * np.pi * each * time_s + each) / (1 + index) for index, each in enumerate(hz))
    return np.clip(samples + np.asarray(level * waves, np.float32), -1, 1)


DISTURBANCES: dict[str, Callable[[F32], F32]] = {
    "offset 0.02": lambda samples: np.clip(samples + np.float32(0.02), -1, 1),
    "offset 0.1": lambda samples: np.clip(samples + np.float32(0.1), -1, 1),
    "hum 50 Hz, -40 dB": lambda samples: _tone(samples, (50,), 0.01),
    "hum 60 Hz, -30 dB": lambda samples: _tone(samples, (60,), 0.03),
    "hum 50 Hz with harmonics, -40 dB": lambda samples: _tone(samples, (50, 100, 150, 200, 250), 0.01),
    "rumble 8 to 30 Hz, -20 dB": lambda samples: _tone(samples, (8, 13, 19, 30), 0.1),
}


def answers(branch: SpeechBranch, sounds: Sequence[F32], spec: SpeechSpec) -> list[int]:
    """Return the class index that the branch answers for each clip."""
    return [int(clip_mean(clip_outputs(branch, sound, spec)).argmax()) for sound in sounds]


def cost_ratio(spec: SpeechSpec, filtered: SpeechSpec, samples: F32) -> dict[str, float]:
    """Return the thread CPU time of the front end per second of sound, in microseconds, with and without the filter."""
    times: dict[str, list[float]] = {"without_us": [], "with_us": []}
    for _ in range(ROUNDS):
        for name, each in (("without_us", spec), ("with_us", filtered)):
            front_end = SpeechFrontEnd(each)
            start = time.thread_time_ns()
            for position in range(0, samples.size, BLOCK_SAMPLES):
                list(front_end.push(AudioBlock(samples[position : position + BLOCK_SAMPLES], position * 62_500, 16_000)))
            times[name].append((time.thread_time_ns() - start) / 1e3 / (samples.size / 16_000))
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return {**medians, "ratio": medians["with_us"] / medians["without_us"]}


def measure(ravdess: Path, bundle: Path) -> dict[str, Any]:
    """Measure the filter on the clips of `ravdess` with the speech network of `bundle`."""
    engine = Engine(load_bundle(bundle), "int8", "onnx")
    branch, spec = engine.speech_branch(), engine.bundle.spec.speech
    plain = replace(spec, mfcc=replace(spec.mfcc, high_pass_hz=0.0))
    filtered = replace(spec, mfcc=replace(spec.mfcc, high_pass_hz=CUTOFF_HZ))
    sounds = [read_sound(clip.path) for clip in list_ravdess(ravdess)[::CLIP_STRIDE]]
    changed: dict[str, dict[str, float]] = {}
    for name, front_end in (("without", plain), ("with", filtered)):
        clean = answers(branch, sounds, front_end)
        for disturbance, apply in DISTURBANCES.items():
            disturbed = answers(branch, [apply(sound) for sound in sounds], front_end)
            changed.setdefault(disturbance, {})[name] = float(np.mean(np.not_equal(clean, disturbed)))
    return {
        "benchmark": "high_pass",
        "machine": machine(),
        "clips": len(sounds),
        "cutoff_hz": CUTOFF_HZ,
        "cost": cost_ratio(plain, filtered, np.concatenate(sounds[:8])),
        "changed_answers": changed,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the filter and write the figures; return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks high_pass", description=__doc__.splitlines()[0])
    parser.add_argument("--ravdess", type=Path, required=True, metavar="DIR", help="folder with the Actor_NN folders")
    parser.add_argument("--bundle", type=Path, default=DEFAULT, metavar="DIR", help="bundle (the one that ships)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    arguments = parser.parse_args(argv)
    write_json(measure(arguments.ravdess, arguments.bundle), arguments.json)
    return 0
