"""Write docs/speech_front_end.md from the measured figures beside it.

python -m docs.generate.front_end_page docs
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PEERS = ("python_speech_features", "librosa", "kaldi-native-fbank")


def render_page(mfcc: dict[str, Any], voice: dict[str, Any]) -> str:
    return "\n\n".join([INTRODUCTION, *_speed(mfcc), *_voice_activity(voice), NOISE_REDUCTION]) + "\n"


INTRODUCTION = """# The speech front end

From sound to what the speech branch reads: pre-emphasis, window, power spectrum, mel bands, noise removal, log, cepstra;
from the same spectrum, how high the voice is; and from the same bands, whether anybody speaks. It streams: any chunking of
the same sound gives the same bits.

![A recording in kitchen noise: samples, mel spectrum before and after noise removal, voice](speech_front_end.png)"""
NOISE_REDUCTION = "What noise removal is worth to the answers stands among the ablations in [the report](models/README.md)."


def table(*rows: str) -> str:
    header, *rest = rows
    return "\n".join([header, "|---" * (header.count("|") - 1) + "|", *rest])


def _speed(mfcc: dict[str, Any]) -> list[str]:
    machine, clip = mfcc["machine"], mfcc["clip"]
    clip_rows = [
        f"| {peer} | {clip[peer]['median_us']:.0f} us | {mfcc['clip_times_faster_than'][peer]:.1f}x |" for peer in PEERS
    ]
    stream_rows = [
        f"| {hops} hops | {row['us_per_hop']['moodring']:.2f} us | {row['us_per_hop']['kaldi-native-fbank']:.2f} us "
        f"| {row['times_faster_than_kaldi']:.2f}x |"
        for hops, row in mfcc["stream"].items()
    ]
    memory, live = mfcc["memory"], mfcc["live"]
    return [
        "## How fast",
        (
            f"Thread CPU time on {machine['processor']} ({machine['cores']} cores), commit {machine['commit']},\n"
            f"{machine['date']}, all in one process, interleaved; 26 mel filters, 13 cepstra, noise removal off,\n"
            "as the peers have none. "
            "Figures: [benchmarks/mfcc.json](benchmarks/mfcc.json)."
        ),
        table(
            f"| {mfcc['clip_seconds']:g} s clip | median | moodring is faster by |",
            f"| moodring ({mfcc['kernel']}) | {clip['moodring']['median_us']:.0f} us | |",
            *clip_rows,
            f"| FFT and mel product alone | {clip['floor']['median_us']:.0f} us | "
            f"moodring takes {mfcc['clip_multiple_of_floor']:.2f} times as long |",
        ),
        table("| streaming, block of | moodring, per hop | kaldi-native-fbank, per hop | faster by |", *stream_rows),
        (
            f"Memory over {memory['pushes']} pushes: {memory['growth_bytes']} bytes more, at most "
            f"{memory['transient_peak_bytes']} bytes within one push.\n"
            f"A live stream in blocks of {live['block_hops']} hops takes {live['mfcc_percent_of_core']:.3f} % of a core\n"
            f"for the cepstra, "
            f"{live['front_end_percent_of_core']:.3f} % with noise tracking and removal, voice activity and windows."
        ),
    ]


def _voice_activity(voice: dict[str, Any]) -> list[str]:
    rows = [_voice_row("clean", voice["clean"]), *(_voice_row(f"{s} dB", f) for s, f in voice["mean_by_snr"].items())]
    return [
        "## Who speaks",
        (
            f"Per 10 ms frame over {voice['clips']} RAVDESS clips, clean and mixed with six noise recordings;\n"
            "truth is the clean clip's level. Figures: [benchmarks/voice_activity.json](benchmarks/voice_activity.json)."
        ),
        table("| | precision | recall | F1 |", *rows),
    ]


def _voice_row(name: str, figures: dict[str, float]) -> str:
    return f"| {name} | " + " | ".join(f"{100 * figures[key]:.1f} %" for key in ("precision", "recall", "f1")) + " |"


def main() -> None:
    docs = Path(sys.argv[1])
    names = ("benchmarks/mfcc.json", "benchmarks/voice_activity.json")
    text = render_page(*(json.loads((docs / name).read_text(encoding="utf-8")) for name in names))
    (docs / "speech_front_end.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
