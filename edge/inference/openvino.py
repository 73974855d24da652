"""OpenVINO on the CPU (extra `openvino`). float32 models run in float32: the default, bfloat16, was slower and less exact."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moodring.errors import BackendError
from moodring.inference.base import Shapes, check_interface
from moodring.types import F32


class OpenVinoModel:
    """A network as a compiled OpenVINO model, from an ONNX file or an IR. Raises BackendError if it cannot be loaded."""

    def __init__(self, path: Path, inputs: Shapes, outputs: Shapes, threads: int = 1) -> None:
        try:
            import openvino  # noqa: PLC0415  an extra, imported only when it is configured
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
        self._lock = threading.Lock()  # several streams share a network, and an infer request runs one inference at a time
        self._outputs = list(outputs)

    def run(self, inputs: Mapping[str, F32]) -> dict[str, F32]:
        with self._lock:
            self._request.infer(dict(inputs))
            return {name: self._request.get_tensor(name).data.copy() for name in self._outputs}


def _shapes(ports: Any) -> dict[str, tuple[int, ...]]:
    return {port.any_name: tuple(d.get_length() if d.is_static else -1 for d in port.get_partial_shape()) for port in ports}
