"""Interface of a loaded network, and the check of its inputs and outputs. ONNX Runtime and OpenVINO implement it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from moodring.errors import BackendError
from moodring.types import F32

Shapes = Mapping[str, tuple[int, ...]]


class Model(Protocol):
    """A loaded network. Inputs and outputs are float32 arrays by name; their first axis is the batch."""

    def run(self, inputs: Mapping[str, F32]) -> dict[str, F32]: ...


def check_interface(path: Path, kind: str, expected: Shapes, found: Shapes) -> None:
    """Raise BackendError unless the inputs or outputs of a network have exactly the expected names and shapes.

    `kind` is `inputs` or `outputs`. A size of -1 in `found` matches any size.
    """
    if set(expected) != set(found):
        raise BackendError(
            f"{path}: {kind} are {sorted(found)}, but the bundle declares {sorted(expected)}; export the model again"
        )
    for name, shape in expected.items():
        fits = len(shape) == len(found[name]) and all(
            size in (expected_size, -1) for expected_size, size in zip(shape, found[name], strict=True)
        )
        if not fits:
            raise BackendError(
                f"{path}: {kind[:-1]} {name!r} has shape {found[name]}, but the bundle declares {shape}; export the model again"
            )
