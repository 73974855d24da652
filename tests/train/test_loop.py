"""The training loop and the recipes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from moodring.errors import ConfigError, MoodringError
from moodring.train import loop
from moodring.train.loop import CHECKPOINT, TrainingTask, fit, learning_rate, update_ema
from moodring.train.recipe import Recipe, read_ancestor_recipes, read_recipe

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "train"


def recipe(epochs: int = 4, **changes: object) -> Recipe:
    values: dict[str, object] = {
        "kind": "toy", "seed": 3, "threads": 1, "epochs": epochs, "batch": 8, "learning_rate": 1e-2, "weight_decay": 0.01,
        "warmup_epochs": 1.0, "averaging": 0.9,
    }  # fmt: skip
    return Recipe(**{**values, **changes})  # type: ignore[arg-type]


def small_task(stop_at: int | None = None, error: type[BaseException] = KeyboardInterrupt) -> TrainingTask:
    """Return a task with a small network with dropout and batch normalisation; it raises `error` in epoch `stop_at`."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))

    def batches(epoch: int):
        rng = np.random.default_rng([3, epoch])
        for step in range(5):
            if epoch == stop_at and step == 3:
                raise error
            x = torch.from_numpy(rng.standard_normal((8, 4), np.float32))
            yield x, (x.sum(dim=1) > 0).long()

    def loss(net: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, dict[str, float]]:
        return nn.functional.cross_entropy(net(batch[0]), batch[1]), {}

    def validate(net: nn.Module) -> dict[str, float]:
        assert not net.training
        with torch.no_grad():
            return {"score": -float(net(torch.ones(2, 4))[:, 0].sum())}

    return TrainingTask(model, 5, batches, loss, validate)


def test_resumed_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    expected, finished = fit(small_task(), recipe(), tmp_path / "whole")
    assert finished
    with pytest.raises(RuntimeError):  # fails in the middle of epoch 3
        fit(small_task(2, RuntimeError), recipe(), tmp_path / "broken")
    task = small_task()
    resumed, finished = fit(task, recipe(), tmp_path / "broken")
    assert finished
    assert resumed == expected
    resumed_state, expected_state = (torch.load(tmp_path / run / CHECKPOINT) for run in ("broken", "whole"))
    for name, value in expected_state["model"].items():
        assert torch.equal(value, resumed_state["model"][name])
    for name, value in expected_state["averaged"].items():
        assert torch.equal(value, resumed_state["averaged"][name])


def test_ctrl_c_keeps_the_best_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = small_task(2)
    history, finished = fit(task, recipe(), tmp_path)
    assert not finished
    assert [row["epoch"] for row in history] == [1, 2]
    assert "training interrupted: the best weights so far are kept; run the same command to resume" in capsys.readouterr().out
    best = torch.load(tmp_path / loop.BEST)
    assert all(torch.equal(value, best[name]) for name, value in task.model.state_dict().items())
    assert len(fit(small_task(), recipe(), tmp_path)[0]) == 4


def test_ctrl_c_in_the_first_epoch_raises(tmp_path: Path) -> None:
    with pytest.raises(MoodringError, match="before the end of the first epoch"):
        fit(small_task(0), recipe(), tmp_path)


def test_checkpoint_of_another_recipe_or_parent_network_is_refused(tmp_path: Path) -> None:
    fit(small_task(), recipe(1), tmp_path)
    with pytest.raises(MoodringError, match="belongs to another recipe"):
        fit(small_task(), recipe(2), tmp_path)
    with pytest.raises(MoodringError, match="preprocessing or parent network"):
        fit(dataclasses.replace(small_task(), parent_weights="other"), recipe(1), tmp_path)


def test_loss_that_is_not_finite_raises(tmp_path: Path) -> None:
    with pytest.raises(MoodringError, match=r"at step [0-9]+: training stops; lower learning_rate"):
        fit(small_task(), recipe(learning_rate=float("inf")), tmp_path)


def test_learning_rate_warms_up_and_decays() -> None:
    rates = [learning_rate(recipe(), step, 5) for step in range(20)]
    assert rates[0] == pytest.approx(1e-2 / 5)
    assert max(rates) == pytest.approx(1e-2)
    assert rates[-1] < 1e-3
    assert rates[5:] == sorted(rates[5:], reverse=True)


def test_update_ema_averages_the_weights(tmp_path: Path) -> None:
    model, ema_model = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.ones_(model.weight)
    nn.init.zeros_(ema_model.weight)
    update_ema(ema_model, model, 1000, 0.9)
    assert ema_model.weight.item() == pytest.approx(0.1)


@pytest.mark.parametrize("kind", ["face", "speech", "fusion"])
def test_committed_recipes_are_valid(kind: str) -> None:
    assert read_recipe(CONFIGS / f"{kind}.yaml", kind).kind == kind


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochz: 3", r"unknown key 'epochz'; did you mean 'epochs'\?"),
        ("seed: many", "seed must be int, found 'many'"),
        ("mixup: true", "mixup must be float, found True"),
        ("kind: speech", "is a recipe for 'speech', not for 'face'"),
    ],
)
def test_invalid_recipe_raises_an_error_that_names_the_key(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "face.yaml"
    key = change.split(":", maxsplit=1)[0]
    kept = [line for line in (CONFIGS / "face.yaml").read_text().splitlines() if not line.startswith(f"{key}:")]
    path.write_text("\n".join([*kept, change]) + "\n")
    with pytest.raises(ConfigError, match=message):
        read_recipe(path, "face")
    path.write_text("\n".join(line for line in kept if not line.startswith("width")) + "\n")
    with pytest.raises(ConfigError, match=r"missing keys: .*width"):
        read_recipe(path, "face")


def test_ancestor_recipes_are_read_latest_first_and_a_cycle_is_refused(tmp_path: Path) -> None:
    path = CONFIGS / "face.yaml"
    recipe = read_recipe(path, "face")
    chain = [recipe, *read_ancestor_recipes(recipe, path)]
    assert [each.after for each in chain] == ["face_third.yaml", "face_second.yaml", "face_first.yaml", ""]
    assert read_ancestor_recipes(chain[-1], path) == []
    for name in ("face", "face_third", "face_second", "face_first"):
        text = (CONFIGS / f"{name}.yaml").read_text().replace('after: ""', "after: face.yaml")
        (tmp_path / f"{name}.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"face\.yaml: `after` leads back to this recipe"):
        read_ancestor_recipes(recipe, tmp_path / "face.yaml")
