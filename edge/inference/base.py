"""One protocol for whatever runs a network: ONNX Runtime or OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from moodring.errors import BackendError
from moodring.types import F32

Shapes = Mapping[str, tuple[int, ...]]


class Model(Protocol):
    """A loaded network. Inputs and outputs are float32 arrays by name, with the batch as first axis."""

    def run(self, inputs: Mapping[str, F32]) -> dict[str, F32]: ...


def check_interface(path: Path, kind: str, expected: Shapes, found: Shapes) -> None:
    """Raise BackendError unless the network has exactly the wanted names and shapes (-1 fits any size)."""
    if set(expected) != set(found):
        raise BackendError(f"{path}: {kind} are {sorted(found)}, but the bundle says {sorted(expected)}; export it again")
    for name, shape in expected.items():
        fits = len(shape) == len(found[name]) and all(
            size in (expected_size, -1) for expected_size, size in zip(shape, found[name], strict=True)
        )
        if not fits:
            raise BackendError(
                f"{path}: {kind[:-1]} {name!r} has shape {found[name]}, but the bundle says {shape}; export it again"
            )
