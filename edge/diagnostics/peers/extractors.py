"""Other MFCC extractors as calls that are timed on the same sound, and their interleaved timing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from moodring.features.audio.filterbank import mel_filters
from moodring.features.audio.mfcc import CHUNK_FRAMES, Mfcc
from moodring.features.audio.spectrum import Cv2Kernel
from moodring.features.spec import MfccSpec
from moodring.types import F32

SPEC = MfccSpec(filters=26, cepstra=13, low_hz=0.0, lifter=22)
RATE_HZ = SPEC.rate_hz
HOP = SPEC.hop_samples
ROUNDS = 25
Call = Callable[[], object]


def synthetic_speech(seconds: float) -> F32:
    """Return a synthetic voice: harmonics with a syllable-rate envelope and a little noise, float32 [N] in [-1, 1]."""
    rng = np.random.default_rng(0)
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    voice = sum(np.sin(2 * np.pi * 130 * k * t) / k for k in range(1, 25))
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * t)
    return np.asarray(0.1 * envelope * voice + 0.003 * rng.standard_normal(t.size), np.float32)


def cpu_ns(call: Call, repeat: int = 1) -> float:
    """Return the thread CPU time of one call in ns, the mean of `repeat` calls."""
    start = time.thread_time_ns()
    for _ in range(repeat):
        call()
    return (time.thread_time_ns() - start) / repeat


def time_interleaved(calls: dict[str, tuple[Call, int]]) -> dict[str, dict[str, float]]:
    """Time all calls in turn, `ROUNDS` times after one warm-up round; return min, median and max in microseconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(ROUNDS + 1):
        for name, (call, repeat) in calls.items():
            elapsed_us = cpu_ns(call, repeat) / 1000.0
            if index:
                times[name].append(elapsed_us)
    return {n: {"min_us": min(v), "median_us": statistics.median(v), "max_us": max(v)} for n, v in times.items()}


def clip_calls(samples: F32) -> dict[str, tuple[Call, int]]:
    """Return, by extractor, a call that computes the cepstra of a whole clip, and how often to repeat it.

    Raises ModuleNotFoundError if an extractor is not installed (extra: bench).
    """
    mfcc = Mfcc(SPEC, kernel="auto")

    def compute_clip() -> None:
        mfcc.reset()
        mfcc.push(samples)

    calls: dict[str, tuple[Call, int]] = {"moodring": (compute_clip, 20), "floor": (kernel_baseline_call(samples), 20)}
    return calls | peer_clip_calls(samples, (samples * 32767).astype(np.int16))


def kernel_baseline_call(samples: F32) -> Call:
    """Return the kernel baseline: a call that computes only the FFT and the mel product, of as many frames as the clip has."""
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


def peer_clip_calls(samples: F32, samples_int16: NDArray[np.int16]) -> dict[str, tuple[Call, int]]:
    """Return the calls of the other extractors. Raises ModuleNotFoundError if one is not installed (extra: bench)."""
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
    """Return the options of the module kaldi_native_fbank for the same features as `SPEC`."""
    options = knf.MfccOptions()
    options.frame_opts.samp_freq = RATE_HZ
    options.frame_opts.dither = 0
    options.frame_opts.window_type = "hamming"
    options.mel_opts.num_bins = SPEC.filters
    options.num_ceps = SPEC.cepstra
    return options
