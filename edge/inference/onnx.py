"""ONNX Runtime on the CPU. Its threads do not spin: by default they occupy a whole core while they wait."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime

from moodring.errors import BackendError, printable
from moodring.inference.base import Shapes, check_interface
from moodring.inference.processor import int8_may_overflow
from moodring.types import F32


class OnnxModel:
    """A network in an ONNX Runtime session with `threads` threads. Raises BackendError if it cannot be loaded."""

    def __init__(self, path: Path, inputs: Shapes, outputs: Shapes, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if int8_may_overflow():  # exact sums instead of the fastest kernels
            options.add_session_config_entry("session.x64quantprecision", "1")
        name = str(path)
        # ONNX Runtime rejects the name of a file that is not UTF-8, but not its content.
        model = name if name == printable(name) else path.read_bytes()
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BackendError(f"ONNX Runtime {onnxruntime.__version__} cannot load {path}: {error}") from error
        check_interface(path, "inputs", inputs, _shapes(self._session.get_inputs()))
        check_interface(path, "outputs", outputs, _shapes(self._session.get_outputs()))
        self._outputs = list(outputs)

    def run(self, inputs: Mapping[str, F32]) -> dict[str, F32]:
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))


def _shapes(nodes: Any) -> dict[str, tuple[int, ...]]:
    return {node.name: tuple(size if isinstance(size, int) else -1 for size in node.shape) for node in nodes}
