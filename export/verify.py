"""Does an exported network answer as its original does? Names, shapes and numbers, over real inputs, before it is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from moodring.errors import ExportError
from moodring.evaluation.data.readers import list_ravdess, read_fer2013, read_sound
from moodring.export.networks import Network
from moodring.export.quantization.data import Inputs
from moodring.export.to_openvino import Ir, compile_ir
from moodring.features.face.crop import normalize_crops
from moodring.features.spec import PreprocessSpec
from moodring.train.data.faces import find_fer2013
from moodring.train.data.voices import clip_windows, find_ravdess

F32 = NDArray[np.float32]

TOLERANCE = 1e-4  # largest absolute difference of any output
IMAGE_COUNT = 128
CLIP_COUNT = 32


@dataclass(frozen=True, slots=True)
class VerifiedExport:
    """An export that answers as its original: its bytes, and the largest difference seen over `compared` inputs."""

    onnx: bytes
    max_abs_difference: float
    compared: int


def real_inputs(networks: dict[str, Network], data_dir: Path, spec: PreprocessSpec) -> dict[str, Inputs]:
    """Read training pictures and voices, spread over their data sets; fusion gets their embeddings, whole and one-sided."""
    fer = read_fer2013(find_fer2013(data_dir)[0])
    rows = np.linspace(0, int((fer.usage == "Training").sum()) - 1, IMAGE_COUNT).astype(np.int64)
    crops = normalize_crops(fer.faces[rows])
    clips = list_ravdess(find_ravdess(data_dir))
    chosen = [clips[int(index)] for index in np.linspace(0, len(clips) - 1, min(CLIP_COUNT, len(clips)))]
    windows: F32 = np.concatenate([clip_windows(read_sound(clip.path), spec.speech) for clip in chosen])
    inputs: dict[str, Inputs] = {
        "face": [{"crop": crop[None]} for crop in crops],
        "speech": [{"window": window[None]} for window in windows],
    }
    embeddings = [[run_torch(networks[kind], feed)["embedding"] for feed in inputs[kind]] for kind in ("face", "speech")]
    presence_masks = ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0))
    inputs["fusion"] = [
        {"face_embedding": face, "speech_embedding": speech, "presence": np.array([presence_masks[i % 3]], np.float32)}
        for i, (face, speech) in enumerate(zip(*embeddings, strict=False))
    ]
    return inputs


@torch.no_grad()
def run_torch(network: Network, inputs: dict[str, F32]) -> dict[str, F32]:
    """Return what the PyTorch network says, by output name."""
    outputs: Any = network.module(*(torch.from_numpy(inputs[name]) for name in network.inputs))
    if isinstance(outputs, torch.Tensor):
        outputs = (outputs,)
    return {name: output.numpy() for name, output in zip(network.outputs, outputs, strict=True)}


def verify(network: Network, exported: bytes, inputs: Inputs, tolerance: float = TOLERANCE) -> VerifiedExport:
    """Compare an export with its original; raise ExportError on any name, shape or number that differs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no public base class
        raise ExportError(f"{network.kind}: ONNX Runtime refuses the exported file ({error})") from error
    _check_interface(network, "inputs", {node.name: tuple(node.shape) for node in session.get_inputs()})
    _check_interface(network, "outputs", {node.name: tuple(node.shape) for node in session.get_outputs()})
    if not inputs:
        raise ExportError(f"{network.kind}: there are no real inputs to compare on")
    max_difference = 0.0
    for feed in inputs:
        expected = run_torch(network, feed)
        found = dict(zip(network.outputs, session.run(list(network.outputs), feed), strict=True))
        for name, value in expected.items():
            difference = float(np.abs(found[name] - value).max())
            if not difference <= tolerance:  # NaN is refused too
                raise ExportError(
                    f"{network.kind}: output {name!r} differs from PyTorch's by {difference:.2g} (allowed {tolerance:g}); "
                    "nothing was written"
                )
            max_difference = max(max_difference, difference)
    return VerifiedExport(exported, max_difference, len(inputs))


def random_inputs(network: Network, count: int = 32) -> Inputs:
    """Return inputs of the network's shapes: random, the same every time."""
    rng = np.random.default_rng(0)
    return [{name: rng.standard_normal(shape, np.float32) for name, shape in network.inputs.items()} for _ in range(count)]


def verify_ir(network: Network, exported: bytes, ir: Ir, inputs: Inputs, tolerance: float = TOLERANCE) -> float:
    """Compare OpenVINO's form with the ONNX file; return the largest difference of any output, or raise ExportError."""
    session = ort.InferenceSession(exported, providers=["CPUExecutionProvider"])
    compiled = compile_ir(ir)
    max_difference = 0.0
    for feed in inputs:
        expected = session.run(list(network.outputs), feed)
        found = compiled(feed)
        max_difference = max(
            max_difference,
            *(float(np.abs(found[name] - value).max()) for name, value in zip(network.outputs, expected, strict=True)),
        )
    if not max_difference <= tolerance:
        raise ExportError(
            f"{network.kind}: in OpenVINO an output differs from ONNX Runtime's by {max_difference:.2g} (allowed {tolerance:g}); "
            "nothing was written"
        )
    return max_difference


def _check_interface(network: Network, which: str, found: dict[str, tuple[Any, ...]]) -> None:
    expected = network.inputs if which == "inputs" else network.outputs
    if found != expected:
        raise ExportError(f"{network.kind}: the exported {which} are {found}, expected {expected}; nothing was written")
