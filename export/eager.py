"""The committed networks in eager PyTorch: the baseline for the timings of exported variants."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from moodring.export.networks import load_networks
from moodring.export.quantization.data import Feed
from moodring.features.spec import PreprocessSpec
from moodring.train.data.branch_outputs import CHECKPOINTS


def eager_calls(spec: PreprocessSpec) -> dict[str, Callable[[Feed], Callable[[], Any]]]:
    """Return, by network, a function that turns inputs into the call to time, on one thread.

    Returns an empty dict if there are no checkpoints.
    """
    torch.set_num_threads(1)
    networks = load_networks(CHECKPOINTS, spec) if CHECKPOINTS.is_dir() else {}
    return {name: functools.partial(_make_call, network.module.eval()) for name, network in networks.items()}


def _make_call(module: torch.nn.Module, inputs: Feed) -> Callable[[], Any]:
    tensors = [torch.from_numpy(value) for value in inputs.values()]

    def call() -> Any:
        with torch.inference_mode():
            return module(*tensors)

    return call
