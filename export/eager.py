"""The committed networks run eagerly by PyTorch: the baseline that exported variants are timed against."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moodring.export.networks import load_networks
from moodring.features.spec import PreprocessSpec
from moodring.train.data.branch_outputs import CHECKPOINTS

Inputs = dict[str, NDArray[np.float32]]


def eager_calls(spec: PreprocessSpec) -> dict[str, Callable[[Inputs], Callable[[], Any]]]:
    """Return, by network, a function from inputs to the call to time, on one thread; empty where there are no checkpoints."""
    torch.set_num_threads(1)
    networks = load_networks(CHECKPOINTS, spec) if CHECKPOINTS.is_dir() else {}
    return {name: functools.partial(_call, network.module.eval()) for name, network in networks.items()}


def _call(module: torch.nn.Module, inputs: Inputs) -> Callable[[], Any]:
    tensors = [torch.from_numpy(value) for value in inputs.values()]

    def call() -> Any:
        with torch.inference_mode():
            return module(*tensors)

    return call
