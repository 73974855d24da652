"""The kernel baseline: the bare library calls that a frame, a block of sound and a window need at least.

Each call gets the data that the pipeline has just processed: decoding the JPEG, one pass of the cascade over the region around
the tracked face (cropped and scaled beforehand), the FFT and the mel filter product, and one call of each session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import onnxruntime

from moodring.capture.grey import decode_jpeg
from moodring.diagnostics.bench.timing import Stage
from moodring.features.audio.filterbank import mel_filters
from moodring.features.audio.mfcc import CHUNK_FRAMES
from moodring.features.audio.spectrum import make_kernel
from moodring.features.face.crop import crop_face, normalize_crops
from moodring.features.face.haar import QUICK_SEARCH, REGION_SCALE_FACTOR, SEARCH_BOX_GAIN, SEARCH_CASCADE, load_cascade
from moodring.features.spec import PreprocessSpec
from moodring.inference.bundle import Bundle
from moodring.inference.variants import NetworkVariant, VariantPlan
from moodring.types import U8

KERNELS = ("decode", "detect", "face", "mfcc", "speech")


class KernelBaseline:
    """Runs and times the bare kernels."""

    def __init__(self, bundle: Bundle, plan: VariantPlan, reduction: int) -> None:
        self.stages = {name: Stage() for name in KERNELS}
        self._spec = bundle.spec
        self._reduction = reduction
        self._cascade = load_cascade(SEARCH_CASCADE)
        self._sessions = {name: _session(bundle, name, plan[name]) for name in ("face", "speech") if name in bundle.models}
        speech = bundle.models.get("speech")
        self._window = {name: np.zeros(shape, np.float32) for name, shape in speech.inputs.items()} if speech else {}
        self._mel = _mel(bundle.spec)

    def frame(self, jpeg: U8, grey: U8, box_xywh: tuple[int, int, int, int]) -> None:
        """Time the kernels of a frame. `grey` is the decoded frame, the box that of the classified face."""
        self.stages["decode"].timed(decode_jpeg)(jpeg, self._reduction)
        region, sides = _region(grey, box_xywh)
        search = self.stages["detect"].timed(self._cascade.detectMultiScale2)
        low, high = sides
        search(region, REGION_SCALE_FACTOR, QUICK_SEARCH.neighbours, 0, (low, low), (high, high))
        crop = {"crop": normalize_crops(crop_face(grey, box_xywh, self._spec.face)[None])}
        self.stages["face"].timed(self._sessions["face"])(crop)

    def block(self, samples: int) -> None:
        """Time the kernels of a block of sound."""
        frames = samples // self._spec.speech.mfcc.hop_samples
        if frames:
            self.stages["mfcc"].timed(self._mel)(frames)

    def window(self) -> None:
        """Time one call of the speech network."""
        if "speech" in self._sessions:
            self.stages["speech"].timed(self._sessions["speech"])(self._window)


def _session(bundle: Bundle, name: str, variant: NetworkVariant) -> Callable[[dict[str, Any]], Any]:
    """Return the bare call of the engine; for engines other than ONNX Runtime, our wrapper."""
    if variant.backend != "onnx":
        return bundle.open(name, variant.precision, variant.backend).run
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(bundle.models[name].files[variant.precision]), options, providers=["CPUExecutionProvider"]
    )
    return lambda inputs: session.run(None, inputs)


def _mel(spec: PreprocessSpec) -> Callable[[int], None]:
    mfcc = spec.speech.mfcc
    kernel = make_kernel("cv2", mfcc.fft_size, CHUNK_FRAMES, np.float32)
    kernel.frames[:] = np.random.default_rng(0).standard_normal(kernel.frames.shape)
    matrix = kernel.pack(mel_filters(mfcc))
    out = np.zeros((CHUNK_FRAMES, mfcc.filters), np.float32)
    plans = [kernel.plan(count) for count in range(1, CHUNK_FRAMES + 1)]

    def run(count: int) -> None:
        plans[count - 1]()
        np.dot(kernel.power[:count], matrix, out[:count])

    return run


def _region(grey: U8, box_xywh: tuple[int, int, int, int]) -> tuple[U8, tuple[int, int]]:
    """Return the region that the detector scans, cropped and scaled, and the smallest and largest face side in it."""
    x, y, side, _ = box_xywh
    reach = side * (0.5 + QUICK_SEARCH.pad)
    left, top = max(0, int(x + side / 2 - reach)), max(0, int(y + side / 2 - reach))
    region = grey[top : int(y + side / 2 + reach), left : int(x + side / 2 + reach)]
    scale = QUICK_SEARCH.face_side / side
    size = (round(region.shape[1] * scale), round(region.shape[0] * scale))
    side_in_region = QUICK_SEARCH.face_side * SEARCH_BOX_GAIN
    scaled = np.asarray(cv2.resize(region, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    return scaled, (round(QUICK_SEARCH.sizes[0] * side_in_region), round(QUICK_SEARCH.sizes[1] * side_in_region))
