"""OpenVINO on one CPU thread, in float32 where the model is: its default of bfloat16 is slower and less exact here."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moodring.errors import BackendError
from moodring.inference.base import Shapes, check_interface
from moodring.types import F32


class OpenVinoModel:
    """A network as a compiled OpenVINO model; reads ONNX files and IR alike."""

    def __init__(self, path: Path, inputs: Shapes, outputs: Shapes, threads: int = 1) -> None:
        try:
            import openvino  # noqa: PLC0415  the extra `openvino`, imported only when it is asked for
        except ImportError as error:
            raise BackendError("the openvino backend is not installed: pip install 'moodring[openvino]'") from error
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        try:
            core = openvino.Core()
            self._compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
        except RuntimeError as error:
            raise BackendError(f"OpenVINO {openvino.__version__} cannot load {path}: {error}") from error
        check_interface(path, "inputs", inputs, _shapes(self._compiled.inputs))
        check_interface(path, "outputs", outputs, _shapes(self._compiled.outputs))
        self._request = self._compiled.create_infer_request()
        self._lock = threading.Lock()  # streams share a network, and a request serves one at a time
        self._outputs = list(outputs)

    def run(self, inputs: Mapping[str, F32]) -> dict[str, F32]:
        with self._lock:
            self._request.infer(dict(inputs))
            return {name: self._request.get_tensor(name).data.copy() for name in self._outputs}


def _shapes(ports: Any) -> dict[str, tuple[int, ...]]:
    return {port.any_name: tuple(d.get_length() if d.is_static else -1 for d in port.get_partial_shape()) for port in ports}
