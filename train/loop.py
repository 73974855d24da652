"""One training loop for every branch: AdamW, cosine rate, averaged weights, a checkpoint an epoch, a clean end on Ctrl-C.

Every epoch's chance comes from (seed, epoch) alone, so a run that was killed and resumed gives what an unbroken run gives.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

from moodring.errors import DataError, MoodringError
from moodring.features.spec import PreprocessSpec
from moodring.train.recipe import Recipe

CHECKPOINT = "checkpoint.pt"
BEST = "best.pt"
CLIP_NORM = 5.0


@dataclass(frozen=True)
class TrainingTask:
    """What differs between the branches.

    `batches(epoch)` yields `steps` batches; `loss(model, batch)` gives the loss and its parts as floats; `validate(model)`
    gives figures with `score`, by which the best averaged weights are kept, or the last ones where `last` says so. `basis`
    names what the weights rest on besides the recipe and the preprocessing: the branches that a fusion joins.
    """

    model: nn.Module
    steps: int
    batches: Callable[[int], Iterable[Any]]
    loss: Callable[[nn.Module, Any], tuple[Tensor, dict[str, float]]]
    validate: Callable[[nn.Module], dict[str, float]]
    parent_weights: str = ""
    keep_last: bool = False


@dataclass
class TrainingState:
    """Where a run stands, between epochs."""

    epoch: int  # epochs done
    optimizer: torch.optim.Optimizer
    ema_model: nn.Module
    history: list[dict[str, float]]
    best_score: float


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, then rename it there: a killed run never leaves half a file."""
    part = path.with_name(path.name + ".part")
    write(part)
    part.replace(path)


def seed_everything(seed: int, epoch: int) -> np.random.Generator:
    torch.manual_seed(seed * 100_003 + epoch)
    return np.random.default_rng([seed, epoch])


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then half a cosine down to nothing."""
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1.0, recipe.epochs * steps_per_epoch - warmup)
    return recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


@torch.no_grad()
def update_ema(ema_model: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move the averaged weights (and batch statistics) towards the model's; faster in the first steps."""
    weight = 1.0 - min(decay, (1.0 + step) / (10.0 + step))
    for mean, value in zip(ema_model.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, weight)
        else:
            mean.copy_(value)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; biases and normalisation are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    undecayed = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": undecayed, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def resume_fingerprint(recipe: Recipe, parent_weights: str) -> str:
    """Return what a run may go on from: the same recipe, but for its threads, on the same preprocessing and basis."""
    return repr((replace(recipe, threads=0), PreprocessSpec().hash_for(recipe.kind), parent_weights))


def save_checkpoint(folder: Path, task: TrainingTask, state: TrainingState, recipe: Recipe) -> None:
    document = {
        "recipe": resume_fingerprint(recipe, task.parent_weights),
        "epoch": state.epoch,
        "model": task.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "averaged": state.ema_model.state_dict(),
        "history": state.history,
        "best_score": state.best_score,
    }
    write_atomically(folder / CHECKPOINT, lambda part: torch.save(document, part))


def load_checkpoint(folder: Path, task: TrainingTask, state: TrainingState, recipe: Recipe) -> bool:
    """Go on from the last whole epoch, if there is one; a checkpoint of another recipe, spec or basis is refused."""
    path = folder / CHECKPOINT
    if not path.is_file():
        return False
    try:
        document = torch.load(path, weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it to start over") from error
    if document["recipe"] != resume_fingerprint(recipe, task.parent_weights):
        raise MoodringError(
            f"{path}: was made by another recipe, preprocessing or branch; give another --out, or delete it to start over"
        )
    task.model.load_state_dict(document["model"])
    state.optimizer.load_state_dict(document["optimizer"])
    state.ema_model.load_state_dict(document["averaged"])
    state.epoch, state.history = document["epoch"], document["history"]
    state.best_score = document["best_score"]
    return True


@contextmanager
def progress(title: str, steps: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, nothing elsewhere (a line an epoch says enough in a log)."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    with Progress(transient=True) as bar:
        task = bar.add_task(title, total=steps)
        yield lambda: bar.advance(task)


def train_epoch(task: TrainingTask, state: TrainingState, recipe: Recipe) -> dict[str, float]:
    """Run one epoch; return the mean of each part of the loss."""
    seed_everything(recipe.seed, state.epoch)
    task.model.train()
    sums: dict[str, float] = {}
    step = state.epoch * task.steps
    with progress(f"epoch {state.epoch + 1}/{recipe.epochs}", task.steps) as advance:
        for batch in task.batches(state.epoch):
            for group in state.optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step, task.steps)
            loss, parts = task.loss(task.model, batch)
            if not torch.isfinite(loss):
                raise MoodringError(f"the loss is {loss.item()} at step {step}: lower learning_rate in the recipe")
            state.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(task.model.parameters(), CLIP_NORM)
            state.optimizer.step()
            update_ema(state.ema_model, task.model, step, recipe.averaging)
            for name, value in {"loss": loss.item(), **parts}.items():
                sums[name] = sums.get(name, 0.0) + value
            step += 1
            advance()
    return {name: value / task.steps for name, value in sums.items()}


def fit(task: TrainingTask, recipe: Recipe, folder: Path) -> tuple[list[dict[str, float]], bool]:
    """Train to the end of the recipe, or to Ctrl-C. Leaves the best averaged weights in `task.model`.

    Returns the history, an entry an epoch, and whether every epoch was done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ema_model = deepcopy(task.model).eval().requires_grad_(False)
    state = TrainingState(0, make_optimizer(task.model, recipe), ema_model, [], -math.inf)
    if load_checkpoint(folder, task, state, recipe):
        print(f"resuming after epoch {state.epoch}", flush=True)
    finished = True
    try:
        while state.epoch < recipe.epochs:
            started_s = time.monotonic()
            row = train_epoch(task, state, recipe)
            row |= task.validate(state.ema_model)
            state.epoch += 1
            state.history.append({"epoch": state.epoch, **row})
            if task.keep_last or row["score"] > state.best_score:
                state.best_score = row["score"]
                write_atomically(folder / BEST, lambda part: torch.save(state.ema_model.state_dict(), part))
            save_checkpoint(folder, task, state, recipe)
            figures = " ".join(f"{name} {value:.3f}" for name, value in row.items())
            print(f"epoch {state.epoch}/{recipe.epochs} {time.monotonic() - started_s:.0f} s {figures}", flush=True)
    except KeyboardInterrupt:
        finished = False
        print("interrupted: the best weights so far are kept; the same command goes on", flush=True)
    if not (folder / BEST).is_file():
        raise MoodringError("interrupted before the first epoch ended: nothing to keep")
    task.model.load_state_dict(torch.load(folder / BEST, weights_only=True))
    task.model.eval()
    return state.history, finished
