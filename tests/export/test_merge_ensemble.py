"""The speech branch as it is run answers as it was trained."""

from __future__ import annotations

import pytest
import torch

from moodring.export.merge_ensemble import LANES, merge_ensemble
from moodring.train.models.speech import SpeechNet, build_ensemble


def network(seed: int, early: int, width: int) -> SpeechNet:
    torch.manual_seed(seed)
    one = SpeechNet(members=((early, width),))
    one.standardise.running_mean.normal_(0.0, 3.0)
    one.standardise.running_var.uniform_(0.5, 5.0)
    for part in one.modules():
        if isinstance(part, torch.nn.BatchNorm1d) and part.affine:
            part.running_mean.normal_(0.0, 0.3)
            part.running_var.uniform_(0.5, 2.0)
    return one.eval()


@pytest.mark.parametrize("sizes", [((16, 24),), ((16, 24), (8, 20))])
@torch.no_grad()
def test_it_answers_as_it_was_trained(sizes: tuple[tuple[int, int], ...]) -> None:
    trained = build_ensemble([network(seed, *size) for seed, size in enumerate(sizes)])
    state = {name: value.clone() for name, value in trained.state_dict().items()}
    run = merge_ensemble(trained)
    window = torch.randn(5, 300, trained.columns) * 3
    for one, other in zip(trained(window), run(window), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    assert run.hidden.out_channels % LANES == 0
    assert all(torch.equal(value, state[name]) for name, value in trained.state_dict().items())  # it was only read
