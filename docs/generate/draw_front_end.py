"""Draw docs/speech_front_end.png: the stages of the speech front end on a recording that is mixed with noise.

    python -m docs.generate.draw_front_end --clip FILE --noise FILE --out PNG [--snr 5]

The committed figure shows Actor_05/03-01-05-01-01-01-05.flac of RAVDESS with the noise recording sc_doing_the_dishes.flac.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

from moodring.evaluation.data.readers import read_sound
from moodring.evaluation.speech import mix_noise
from moodring.features.audio.voice_activity import VoiceActivityDetector
from moodring.features.audio.window import make_mfcc
from moodring.features.spec import SpeechSpec


def draw(clip: Path, noise: Path, snr_db: float, out: Path) -> None:
    """Mix a clip with noise at a signal-to-noise ratio and draw samples, mel spectra, cepstra and voice activity."""
    noisy = mix_noise([read_sound(clip)], read_sound(noise), snr_db)[0]
    plain = make_mfcc(SpeechSpec(noise_reduction="none"))
    plain.push(noisy)
    spec = dataclasses.replace(SpeechSpec(), noise_reduction="wiener")
    clean = make_mfcc(spec)
    cepstra = clean.push(noisy).copy()
    voiced = VoiceActivityDetector(spec.mfcc).update(clean.log_mel, clean.likelihood)
    seconds = noisy.size / spec.mfcc.rate_hz
    figure, axes = plt.subplots(5, 1, figsize=(10, 10), sharex=True, height_ratios=(2, 3, 3, 3, 1), layout="constrained")
    axes[0].plot(np.arange(noisy.size) / spec.mfcc.rate_hz, noisy, linewidth=0.4, color="#204a87")
    axes[0].set(
        ylabel="samples",
        title=f"A RAVDESS recording with noise: {noise.stem.removeprefix('sc_').replace('_', ' ')}, {snr_db:g} dB",
    )
    limits = {"vmin": np.percentile(plain.log_mel, 5) - 3, "vmax": plain.log_mel.max()}
    shape = {"aspect": "auto", "origin": "lower", "interpolation": "nearest"}
    for axis, image, label in (
        (axes[1], plain.log_mel, "log mel, noisy"),
        (axes[2], clean.log_mel, "log mel, noise reduced"),
    ):
        axis.imshow(image.T, extent=(0, seconds, 0, image.shape[1]), cmap="magma", **limits, **shape)
        axis.set_ylabel(label)
    scaled = (cepstra - cepstra.mean(axis=0)) / cepstra.std(axis=0)
    axes[3].imshow(scaled[:, :20].T, extent=(0, seconds, 0, 20), cmap="RdBu_r", vmin=-3, vmax=3, **shape)
    axes[3].set_ylabel("cepstra 0-19")
    times = np.arange(len(voiced)) * spec.mfcc.hop_samples / spec.mfcc.rate_hz
    axes[4].fill_between(times, voiced, step="post", color="#4e9a06")
    axes[4].set(ylabel="speech", yticks=(), ylim=(0, 1), xlabel="seconds", xlim=(0, seconds))
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


def main(argv: Sequence[str]) -> int:
    """Draw the figure into the named file; return 0."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate.draw_front_end", description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, required=True, metavar="FILE", help="recording of a voice")
    parser.add_argument("--noise", type=Path, required=True, metavar="FILE", help="recording of noise")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG", help="the file to write")
    parser.add_argument("--snr", type=float, default=5.0, metavar="DB", help="signal-to-noise ratio (5)")
    arguments = parser.parse_args(argv)
    draw(arguments.clip, arguments.noise, arguments.snr, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
