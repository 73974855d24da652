"""The merged speech network gives the outputs of the trained one."""

from __future__ import annotations

import pytest
import torch

from moodring.export.merge_ensemble import LANES, merge_ensemble
from moodring.train.models.speech import SpeechNet, build_ensemble


def network(seed: int, early: int, width: int) -> SpeechNet:
    torch.manual_seed(seed)
    net = SpeechNet(members=((early, width),))
    net.standardise.running_mean.normal_(0.0, 3.0)
    net.standardise.running_var.uniform_(0.5, 5.0)
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm1d) and part.affine:
            part.running_mean.normal_(0.0, 0.3)
            part.running_var.uniform_(0.5, 2.0)
    return net.eval()


@pytest.mark.parametrize("sizes", [((16, 24),), ((16, 24), (8, 20))])
@torch.no_grad()
def test_merged_ensemble_equals_trained_network(sizes: tuple[tuple[int, int], ...]) -> None:
    trained = build_ensemble([network(seed, *size) for seed, size in enumerate(sizes)])
    state = {name: value.clone() for name, value in trained.state_dict().items()}
    merged = merge_ensemble(trained)
    window = torch.randn(5, 300, trained.columns) * 3
    for expected, found in zip(trained(window), merged(window), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert merged.hidden.out_channels % LANES == 0
    assert all(
        torch.equal(value, state[name]) for name, value in trained.state_dict().items()
    )  # the merge leaves the original unchanged
