"""Speed and memory of the MFCC front end, compared with other extractors.

    python -m benchmarks mfcc [--json FILE] [--seconds 3]

All extractors run interleaved in one process on one thread; times are thread CPU time. Compare medians and ratios. All compute
the same features: 16 kHz, windows of 25 ms every 10 ms, 512-point FFT, 26 mel filters, 13 cepstra. Needs the extra `bench`.

The figures in docs/benchmarks/mfcc.json are measured with OPENBLAS_NUM_THREADS=1, and with OPENBLAS_CORETYPE and
OPENBLAS_L2_SIZE unset, so that OpenBLAS chooses the kernels for the processor.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

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
from moodring.types import F32, AudioBlock

BLOCKS_HOPS = (1, 2, 5, 10, 30)


def stream_calls(samples: F32, hops: int) -> dict[str, tuple[Call, int]]:
    """Return, by extractor, a call that pushes a block of `hops` hops and reads the completed frames of an endless stream."""
    import kaldi_native_fbank as knf

    mfcc = Mfcc(SPEC, kernel="auto")
    block = samples[: hops * HOP].copy()
    online = knf.OnlineMfcc(kaldi_options(knf))
    frames_read = 0

    def push_kaldi() -> None:
        nonlocal frames_read
        online.accept_waveform(RATE_HZ, block)
        for index in range(frames_read, online.num_frames_ready):
            online.get_frame(index)
        frames_before, frames_read = frames_read, online.num_frames_ready
        online.pop(frames_read - frames_before)

    return {"moodring": (lambda: mfcc.push(block), 200), "kaldi-native-fbank": (push_kaldi, 100)}


def steady_memory(pushes: int = 10_000) -> dict[str, int]:
    """Return the growth over many pushes and the highest transient peak of one push, in bytes (tracemalloc)."""
    mfcc = Mfcc(SPEC)
    block = synthetic_speech(1.0)[: 5 * HOP].copy()
    for _ in range(100):
        mfcc.push(block)
    tracemalloc.start()
    mfcc.push(block)
    before, _ = tracemalloc.get_traced_memory()
    peak = 0
    for _ in range(pushes):
        tracemalloc.reset_peak()
        now, _ = tracemalloc.get_traced_memory()
        mfcc.push(block)
        peak = max(peak, tracemalloc.get_traced_memory()[1] - now)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"pushes": pushes, "growth_bytes": after - before, "transient_peak_bytes": peak}


def live_cpu_percent(hops: int = 5, seconds: float = 60.0) -> dict[str, float]:
    """Return the CPU time of a live 16 kHz stream in percent of a core, of the cepstra and of the whole speech front end."""
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
    """Measure all extractors on a synthetic clip of this duration and on streams, and the memory and CPU time of moodring."""
    cv2.setNumThreads(1)
    samples = synthetic_speech(seconds)
    clip = time_interleaved(clip_calls(samples))
    median_us = clip["moodring"]["median_us"]
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
        "clip_times_faster_than": {n: t["median_us"] / median_us for n, t in clip.items() if n not in ("moodring", "floor")},
        "clip_multiple_of_floor": median_us / clip["floor"]["median_us"],
        "stream": streams,
        "memory": steady_memory(),
        "live": live_cpu_percent(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the extractors and write the figures; return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks mfcc", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="N", help="duration of the clip (3)")
    arguments = parser.parse_args(argv)
    write_json(measure(arguments.seconds), arguments.json)
    return 0
