"""MFCC extractors that people use otherwise, as calls that are timed on the same sound, and the timing itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from moodring.features.audio.filterbank import mel_filters
from moodring.features.audio.mfcc import CHUNK_FRAMES, Mfcc
from moodring.features.audio.spectrum import Cv2Kernel
from moodring.features.spec import MfccSpec

SPEC = MfccSpec(filters=26, cepstra=13, low_hz=0.0, lifter=22)
RATE_HZ = SPEC.rate_hz
HOP = SPEC.hop_samples
ROUNDS = 25
Call = Callable[[], object]


def synthetic_speech(seconds: float) -> np.ndarray:
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


def time_interleaved(calls: dict[str, tuple[Call, int]]) -> dict[str, dict[str, float]]:
    """Time all calls in turn, `ROUNDS` times, after one round of warm-up; return min, median and max in microseconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(ROUNDS + 1):
        for name, (call, repeat) in calls.items():
            elapsed_us = cpu_ns(call, repeat) / 1000.0
            if round_:
                times[name].append(elapsed_us)
    return {n: {"min_us": min(v), "median_us": statistics.median(v), "max_us": max(v)} for n, v in times.items()}


def clip_calls(samples: np.ndarray) -> dict[str, tuple[Call, int]]:
    """One call computes the cepstra of a whole clip."""
    ours = Mfcc(SPEC, kernel="auto")
    samples_int16 = (samples * 32767).astype(np.int16)
    calls: dict[str, tuple[Call, int]] = {"moodring": (lambda: (ours.reset(), ours.push(samples)), 20)}
    calls["floor"] = (kernel_baseline_call(samples), 20)
    calls |= peer_clip_calls(samples, samples_int16)
    return calls


def kernel_baseline_call(samples: np.ndarray) -> Call:
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


def peer_clip_calls(samples: np.ndarray, samples_int16: np.ndarray) -> dict[str, tuple[Call, int]]:
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
        "python_speech_features": (lambda: psf.mfcc(samples_int16, RATE_HZ, nfft=512, winfunc=np.hamming), 2),
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
