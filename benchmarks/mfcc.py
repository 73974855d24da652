"""How fast and how exact is the MFCC front end, against the extractors people would otherwise use?

    python -m benchmarks.mfcc [--json FILE] [--seconds 3]

All run in one process on one thread, interleaved, measured in thread CPU time; medians and ratios are what counts. The
features are the same for all: 16 kHz, 25/10 ms, 512-point FFT, 26 mel filters, 13 cepstra.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.report import machine, write_json
from moodring.diagnostics.peers.extractors import (
    HOP,
    RATE_HZ,
    SPEC,
    Call,
    clip_calls,
    kaldi_options,
    synthetic_speech,
    time_interleaved,
)
from moodring.features.audio.mfcc import Mfcc
from moodring.features.audio.spectrum import fastest_kernel
from moodring.features.audio.window import SpeechFrontEnd
from moodring.features.spec import SpeechSpec
from moodring.types import AudioBlock

BLOCKS_HOPS = (1, 2, 5, 10, 30)


def stream_calls(samples: np.ndarray, hops: int) -> dict[str, tuple[Call, int]]:
    """One call pushes a block and takes the frames it completed; the streams go on for ever."""
    import kaldi_native_fbank as knf

    ours = Mfcc(SPEC, kernel="auto")
    block = samples[: hops * HOP].copy()
    kaldi_state = {"stream": knf.OnlineMfcc(kaldi_options(knf)), "taken": 0}

    def kaldi() -> None:
        online = kaldi_state["stream"]
        online.accept_waveform(RATE_HZ, block)
        for index in range(kaldi_state["taken"], online.num_frames_ready):
            online.get_frame(index)
        kaldi_state["taken"] = online.num_frames_ready
        online.pop(kaldi_state["taken"] - online_popped(kaldi_state))

    def online_popped(state: dict[str, Any]) -> int:
        popped = int(state.get("popped", 0))
        state["popped"] = state["taken"]
        return popped

    return {"moodring": (lambda: ours.push(block), 200), "kaldi-native-fbank": (kaldi, 100)}


def steady_memory(pushes: int = 10_000) -> dict[str, int]:
    """Growth over many pushes, and the highest transient peak of one push, by tracemalloc, in bytes."""
    ours = Mfcc(SPEC)
    block = synthetic_speech(1.0)[: 5 * HOP].copy()
    for _ in range(100):
        ours.push(block)
    tracemalloc.start()
    ours.push(block)
    before, _ = tracemalloc.get_traced_memory()
    peak = 0
    for _ in range(pushes):
        tracemalloc.reset_peak()
        now, _ = tracemalloc.get_traced_memory()
        ours.push(block)
        peak = max(peak, tracemalloc.get_traced_memory()[1] - now)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"pushes": pushes, "growth_bytes": after - before, "transient_peak_bytes": peak}


def live_cpu_percent(hops: int = 5, seconds: float = 60.0) -> dict[str, float]:
    """CPU share of one core that a live 16 kHz stream takes, for the cepstra alone and for the whole speech front end."""
    samples = synthetic_speech(seconds)
    shares = {}
    for name, make in (("mfcc", lambda: Mfcc(SPEC)), ("front_end", lambda: SpeechFrontEnd(SpeechSpec()))):
        stage = make()
        start = time.thread_time_ns()
        for position in range(0, samples.size, hops * HOP):
            block = samples[position : position + hops * HOP]
            if isinstance(stage, Mfcc):
                stage.push(block)
            else:
                list(stage.push(AudioBlock(block, position * 62_500, RATE_HZ)))
        shares[f"{name}_percent_of_core"] = 100.0 * (time.thread_time_ns() - start) / 1e9 / seconds
    return {"block_hops": hops, **shares}


def measure(seconds: float) -> dict[str, Any]:
    cv2.setNumThreads(1)
    samples = synthetic_speech(seconds)
    clip = time_interleaved(clip_calls(samples))
    ours = clip["moodring"]["median_us"]
    streams: dict[str, Any] = {}
    for hops in BLOCKS_HOPS:
        timed = time_interleaved(stream_calls(samples, hops))
        per_hop = {name: t["median_us"] / hops for name, t in timed.items()}
        streams[str(hops)] = {
            "us_per_hop": per_hop,
            "times_faster_than_kaldi": per_hop["kaldi-native-fbank"] / per_hop["moodring"],
        }
    return {
        "benchmark": "mfcc",
        "machine": machine(),
        "clip_seconds": seconds,
        "kernel": fastest_kernel(SPEC.fft_size, "float32"),
        "clip": clip,
        "clip_times_faster_than": {n: t["median_us"] / ours for n, t in clip.items() if n not in ("moodring", "floor")},
        "clip_multiple_of_floor": ours / clip["floor"]["median_us"],
        "stream": streams,
        "memory": steady_memory(),
        "live": live_cpu_percent(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    write_json(measure(arguments.seconds), arguments.json)


if __name__ == "__main__":
    main()
