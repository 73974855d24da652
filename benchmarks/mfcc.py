"""How fast and how exact is the MFCC front end, against the extractors people would otherwise use?

    python -m benchmarks.mfcc [--json FILE] [--seconds 3]

All run in one process on one thread, interleaved, measured in thread CPU time; medians and ratios are what counts. The
features are the same for all: 16 kHz, 25/10 ms, 512-point FFT, 26 mel filters, 13 cepstra.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.report import machine, write_json
from moodring.features.audio.filterbank import mel_filters
from moodring.features.audio.mfcc import CHUNK_FRAMES, Mfcc
from moodring.features.audio.spectrum import Cv2Kernel, fastest
from moodring.features.audio.window import SpeechFrontEnd
from moodring.features.spec import MfccSpec, SpeechSpec
from moodring.types import AudioBlock

SPEC = MfccSpec(filters=26, cepstra=13, low_hz=0.0, lifter=22)
RATE_HZ = SPEC.rate_hz
HOP = SPEC.hop_samples
BLOCKS_HOPS = (1, 2, 5, 10, 30)
ROUNDS = 25
Call = Callable[[], object]


def speech_like(seconds: float) -> np.ndarray:
    """A voiced-sounding signal: harmonics under a syllable-rate envelope, and a little noise, float32 in [-1, 1]."""
    rng = np.random.default_rng(0)
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    voice = sum(np.sin(2 * np.pi * 130 * k * t) / k for k in range(1, 25))
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * t)
    return (0.1 * envelope * voice + 0.003 * rng.standard_normal(t.size)).astype(np.float32)


def cpu_ns(call: Call, repeat: int) -> float:
    """Thread CPU time of one call in ns, over `repeat` calls."""
    start = time.thread_time_ns()
    for _ in range(repeat):
        call()
    return (time.thread_time_ns() - start) / repeat


def interleaved(calls: dict[str, tuple[Call, int]]) -> dict[str, dict[str, float]]:
    """Time all calls in turn, `ROUNDS` times, after one round of warm-up; return min, median and max in microseconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(ROUNDS + 1):
        for name, (call, repeat) in calls.items():
            taken = cpu_ns(call, repeat) / 1000.0
            if round_:
                times[name].append(taken)
    return {n: {"min_us": min(v), "median_us": statistics.median(v), "max_us": max(v)} for n, v in times.items()}


def clip_calls(samples: np.ndarray) -> dict[str, tuple[Call, int]]:
    """One call computes the cepstra of a whole clip."""
    ours = Mfcc(SPEC, kernel="auto")
    as_int16 = (samples * 32767).astype(np.int16)
    calls: dict[str, tuple[Call, int]] = {"moodring": (lambda: (ours.reset(), ours.push(samples)), 20)}
    calls["floor"] = (floor_call(samples), 20)
    calls |= peers_of_clip(samples, as_int16)
    return calls


def floor_call(samples: np.ndarray) -> Call:
    """The FFT and the mel product alone, of as many frames: what cannot be avoided."""
    kernel = Cv2Kernel(SPEC.fft_size, CHUNK_FRAMES, np.float32)
    kernel.frames[:] = np.random.default_rng(0).standard_normal(kernel.frames.shape)
    spectrum = np.zeros_like(kernel.power)
    matrix = kernel.pack(mel_filters(SPEC))
    out = np.zeros((CHUNK_FRAMES, SPEC.filters), np.float32)
    whole, rest = divmod((samples.size - SPEC.window_samples) // HOP + 1, CHUNK_FRAMES)
    counts = [CHUNK_FRAMES] * whole + ([rest] if rest else [])
    views = [(kernel.frames[:n], spectrum[:n], out[:n]) for n in counts]

    def run() -> None:
        for frames, transformed, mel in views:
            cv2.dft(frames, transformed, cv2.DFT_ROWS)
            np.dot(transformed, matrix, mel)

    return run


def peers_of_clip(samples: np.ndarray, as_int16: np.ndarray) -> dict[str, tuple[Call, int]]:
    """The peers that are installed (extra `bench`)."""
    import kaldi_native_fbank as knf
    import librosa
    import python_speech_features as psf

    def kaldi() -> Any:
        online = knf.OnlineMfcc(kaldi_options(knf))
        online.accept_waveform(RATE_HZ, samples)
        online.input_finished()
        return [online.get_frame(i) for i in range(online.num_frames_ready)]

    return {
        "python_speech_features": (lambda: psf.mfcc(as_int16, RATE_HZ, nfft=512, winfunc=np.hamming), 2),
        "librosa": (
            lambda: librosa.feature.mfcc(
                y=samples, sr=RATE_HZ, n_mfcc=13, n_fft=512, hop_length=HOP, win_length=400, n_mels=26, window="hamming",
                center=False,
            ),
            3,
        ),
        "kaldi-native-fbank": (kaldi, 2),
    }  # fmt: skip


def kaldi_options(knf: Any) -> Any:
    options = knf.MfccOptions()
    options.frame_opts.samp_freq = RATE_HZ
    options.frame_opts.dither = 0
    options.frame_opts.window_type = "hamming"
    options.mel_opts.num_bins = SPEC.filters
    options.num_ceps = SPEC.cepstra
    return options


def stream_calls(samples: np.ndarray, hops: int) -> dict[str, tuple[Call, int]]:
    """One call pushes a block and takes the frames it completed; the streams go on for ever."""
    import kaldi_native_fbank as knf

    ours = Mfcc(SPEC, kernel="auto")
    block = samples[: hops * HOP].copy()
    theirs = {"stream": knf.OnlineMfcc(kaldi_options(knf)), "taken": 0}

    def kaldi() -> None:
        online = theirs["stream"]
        online.accept_waveform(RATE_HZ, block)
        for index in range(theirs["taken"], online.num_frames_ready):
            online.get_frame(index)
        theirs["taken"] = online.num_frames_ready
        online.pop(theirs["taken"] - online_popped(theirs))

    def online_popped(state: dict[str, Any]) -> int:
        popped = int(state.get("popped", 0))
        state["popped"] = state["taken"]
        return popped

    return {"moodring": (lambda: ours.push(block), 200), "kaldi-native-fbank": (kaldi, 100)}


def steady_memory(pushes: int = 10_000) -> dict[str, int]:
    """Growth over many pushes, and the highest transient peak of one push, by tracemalloc, in bytes."""
    ours = Mfcc(SPEC)
    block = speech_like(1.0)[: 5 * HOP].copy()
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


def live_share(hops: int = 5, seconds: float = 60.0) -> dict[str, float]:
    """CPU share of one core that a live 16 kHz stream takes, for the cepstra alone and for the whole speech front end."""
    samples = speech_like(seconds)
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
    samples = speech_like(seconds)
    clip = interleaved(clip_calls(samples))
    ours = clip["moodring"]["median_us"]
    streams: dict[str, Any] = {}
    for hops in BLOCKS_HOPS:
        timed = interleaved(stream_calls(samples, hops))
        per_hop = {name: t["median_us"] / hops for name, t in timed.items()}
        streams[str(hops)] = {
            "us_per_hop": per_hop,
            "times_faster_than_kaldi": per_hop["kaldi-native-fbank"] / per_hop["moodring"],
        }
    return {
        "benchmark": "mfcc",
        "machine": machine(),
        "clip_seconds": seconds,
        "kernel": fastest(SPEC.fft_size, "float32"),
        "clip": clip,
        "clip_times_faster_than": {n: t["median_us"] / ours for n, t in clip.items() if n not in ("moodring", "floor")},
        "clip_multiple_of_floor": ours / clip["floor"]["median_us"],
        "stream": streams,
        "memory": steady_memory(),
        "live": live_share(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    write_json(measure(arguments.seconds), arguments.json)


if __name__ == "__main__":
    main()
