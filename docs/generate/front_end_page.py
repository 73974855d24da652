"""Write docs/speech_front_end.md from the committed figures.

python -m docs.generate.front_end_page docs
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docs.generate.tables import read_figures, table

PEERS = ("python_speech_features", "librosa", "kaldi-native-fbank")
INTRODUCTION = """# The speech front end

The speech front end computes the input of the speech branch from sound: pre-emphasis, window, power spectrum, mel filters,
noise reduction, logarithm, cepstra. The pitch is estimated from the same spectrum, and voice activity is detected from the same
mel bands. The front end is a streaming one: any division of the sound into blocks gives the same result, bit for bit.

![A recording in kitchen noise: samples, mel spectrum before and after noise reduction, voice activity](speech_front_end.png)"""
FILTER = """A spec with `mfcc.high_pass_hz` filters the sound first. The filter is an inverse Chebyshev high-pass
filter of order 5: it removes a constant offset, rumble, wind and the fundamental of mains hum (50 or 60 Hz) by 40 dB or more
and leaves sound above 150 Hz unchanged. It adds no delay. With `mfcc.mel_floor`, digital silence does not differ from the
dither of 16-bit sound, which programs add when they shift or convert it. The bundle that ships was trained without both."""
NOISE_REDUCTION = "The effect of noise reduction on the accuracy is one of the ablations in [the report](models/README.md)."


def render_page(mfcc: dict[str, Any], high_pass: dict[str, Any], voice: dict[str, Any]) -> str:
    """Return the page."""
    sections = [INTRODUCTION, *_speed(mfcc), *_high_pass(high_pass), *_voice_activity(voice), NOISE_REDUCTION]
    return "\n\n".join(sections) + "\n"


def _speed(mfcc: dict[str, Any]) -> list[str]:
    machine, clip = mfcc["machine"], mfcc["clip"]
    clip_rows = [
        [f"moodring ({mfcc['kernel']})", f"{clip['moodring']['median_us']:.0f} us", ""],
        *([peer, f"{clip[peer]['median_us']:.0f} us", f"{mfcc['clip_times_faster_than'][peer]:.1f}x"] for peer in PEERS),
        [
            "kernel baseline: FFT and mel product",
            f"{clip['floor']['median_us']:.0f} us",
            f"moodring takes {mfcc['clip_multiple_of_floor']:.2f} times as long",
        ],
    ]
    stream_rows = [
        [
            f"{hops} hops",
            *(f"{found['us_per_hop'][name]:.2f} us" for name in ("moodring", "kaldi-native-fbank")),
            f"{found['times_faster_than_kaldi']:.2f}x",
        ]
        for hops, found in mfcc["stream"].items()
    ]
    memory, live = mfcc["memory"], mfcc["live"]
    return [
        "## Speed",
        (
            f"Thread CPU time on {machine['processor']} ({machine['cores']} cores), commit {machine['commit']}, "
            f"{machine['date']}. All extractors run\ninterleaved in one process, with 26 mel filters and 13 cepstra, without "
            "noise reduction, which the others do not have.\nFigures: [benchmarks/mfcc.json](benchmarks/mfcc.json)."
        ),
        table([f"{mfcc['clip_seconds']:g} s clip", "median", "speed-up of moodring"], clip_rows),
        table(["stream, block of", "moodring, per hop", "kaldi-native-fbank, per hop", "speed-up of moodring"], stream_rows),
        (
            f"Over {memory['pushes']} pushes the allocated memory grows by {memory['growth_bytes']} bytes; one push allocates "
            f"{memory['transient_peak_bytes']} bytes at most.\n"
            f"A live stream in blocks of {live['block_hops']} hops takes {live['mfcc_percent_of_core']:.3f} % of a core for "
            f"the cepstra, and {live['front_end_percent_of_core']:.3f} % with noise\nestimation and reduction, voice activity "
            "detection and windows."
        ),
    ]


def _high_pass(found: dict[str, Any]) -> list[str]:
    rows = [
        [name, f"{100 * share['without']:.0f} %", f"{100 * share['with']:.0f} %"]
        for name, share in found["changed_answers"].items()
    ]
    return [
        "## Offset, hum and rumble",
        FILTER,
        (
            f"{found['clips']} RAVDESS clips were disturbed; the table shows the share of answers that this changed. Levels "
            "are relative\nto full scale; the clips have a mean level of about -40 dB, so that the hum with harmonics is as "
            f"loud as the voice.\nThe filter adds {100 * (found['cost']['ratio'] - 1):.0f} % to the time of the front end. "
            "Figures: [benchmarks/high_pass.json](benchmarks/high_pass.json)."
        ),
        table(["disturbance", "without the filter", "with it"], rows),
    ]


def _voice_activity(voice: dict[str, Any]) -> list[str]:
    rows = [_voice_row("clean", voice["clean"]), *(_voice_row(f"{s} dB", f) for s, f in voice["mean_by_snr"].items())]
    return [
        "## Voice activity",
        (
            f"Precision and recall per frame of 10 ms over {voice['clips']} RAVDESS clips, clean and mixed with six noise "
            "recordings. The reference\nis the level of the clean clip. "
            "Figures: [benchmarks/voice_activity.json](benchmarks/voice_activity.json)."
        ),
        table(["signal-to-noise ratio", "precision", "recall", "F1"], rows),
    ]


def _voice_row(name: str, figures: dict[str, float]) -> list[str]:
    return [name, *(f"{100 * figures[key]:.1f} %" for key in ("precision", "recall", "f1"))]


def main(argv: Sequence[str]) -> int:
    """Write the page into a folder of documentation; return 0."""
    docs = Path(argv[0])
    names = ("mfcc.json", "high_pass.json", "voice_activity.json")
    (docs / "speech_front_end.md").write_text(
        render_page(*(read_figures(docs / "benchmarks" / name) for name in names)), encoding="utf-8"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
