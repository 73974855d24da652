"""The training loop of all branches: AdamW, cosine learning rate, averaged weights, a checkpoint each epoch, resume.

The random numbers of an epoch depend on (seed, epoch) only. A training that was killed and resumed therefore gives the same
weights as an uninterrupted one.
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
from typing import Any, Generic, TypeVar

import torch
from rich.progress import Progress
from torch import Tensor, nn

from moodring.errors import DataError, MoodringError
from moodring.features.spec import PreprocessSpec
from moodring.train.recipe import Recipe

CHECKPOINT = "checkpoint.pt"
BEST = "best.pt"
CLIP_NORM = 5.0

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class TrainingTask(Generic[Net]):
    """The parts of a training that differ between the branches.

    `batches(epoch)` yields `steps` batches. `loss(model, batch)` returns the loss and its parts as floats. `validate(model)`
    returns figures with `score`: the averaged weights with the highest score are kept, or the last ones if `keep_last` is set.
    `parent_weights` identifies the networks that the training builds on; a checkpoint with other ones is not resumed.
    """

    model: Net
    steps: int
    batches: Callable[[int], Iterable[Any]]
    loss: Callable[[Net, Any], tuple[Tensor, dict[str, float]]]
    validate: Callable[[Net], dict[str, float]]
    parent_weights: str = ""
    keep_last: bool = False


@dataclass
class TrainingState(Generic[Net]):
    """The state of a training between two epochs."""

    epoch: int  # number of completed epochs
    optimizer: torch.optim.Optimizer
    ema_model: Net
    history: list[dict[str, float]]
    best_score: float


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a temporary path beside `path`, then rename the file: a killed process leaves no partial file."""
    part = path.with_name(path.name + ".part")
    write(part)
    part.replace(path)


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the rate at `step`: a linear warm-up, then half a cosine to zero."""
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1.0, recipe.epochs * steps_per_epoch - warmup)
    return recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


@torch.no_grad()
def update_ema(ema_model: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Update the exponential moving average of weights and batch statistics; the decay is lower in the first steps."""
    weight = 1.0 - min(decay, (1.0 + step) / (10.0 + step))
    for mean, value in zip(ema_model.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, weight)
        else:
            mean.copy_(value)


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW without weight decay on biases and normalisation."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    undecayed = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": undecayed, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def resume_fingerprint(recipe: Recipe, parent_weights: str) -> str:
    """Return the text that a checkpoint must match to be resumed.

    It covers the recipe without its threads, the hash of the preprocessing and the parent weights.
    """
    return repr((replace(recipe, threads=0), PreprocessSpec().hash_for(recipe.kind), parent_weights))


def save_checkpoint(folder: Path, task: TrainingTask[Net], state: TrainingState[Net], recipe: Recipe) -> None:
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


def load_checkpoint(folder: Path, task: TrainingTask[Net], state: TrainingState[Net], recipe: Recipe) -> bool:
    """Restore `task` and `state` from the checkpoint in `folder`; return False if there is none.

    Raise DataError if it is damaged, MoodringError if its recipe, preprocessing or parent weights differ.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return False
    try:
        document = torch.load(path, weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it to train from the start") from error
    if document["recipe"] != resume_fingerprint(recipe, task.parent_weights):
        raise MoodringError(
            f"{path}: belongs to another recipe, preprocessing or parent network; pass another --out, or delete the file to "
            "train from the start"
        )
    task.model.load_state_dict(document["model"])
    state.optimizer.load_state_dict(document["optimizer"])
    state.ema_model.load_state_dict(document["averaged"])
    state.epoch, state.history = document["epoch"], document["history"]
    state.best_score = document["best_score"]
    return True


@contextmanager
def progress(title: str, steps: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on a terminal, and nothing elsewhere; yield a function that advances it by one step."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    with Progress(transient=True) as bar:
        task = bar.add_task(title, total=steps)
        yield lambda: bar.advance(task)


def train_epoch(task: TrainingTask[Net], state: TrainingState[Net], recipe: Recipe) -> dict[str, float]:
    """Train one epoch and return the mean of the loss and of each of its parts.

    Raise MoodringError if the loss is not finite.
    """
    torch.manual_seed(recipe.seed * 100_003 + state.epoch)
    task.model.train()
    sums: dict[str, float] = {}
    step = state.epoch * task.steps
    with progress(f"epoch {state.epoch + 1}/{recipe.epochs}", task.steps) as advance:
        for batch in task.batches(state.epoch):
            for group in state.optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step, task.steps)
            loss, parts = task.loss(task.model, batch)
            if not torch.isfinite(loss):
                raise MoodringError(
                    f"the loss is {loss.item()} at step {step}: training stops; lower learning_rate in the recipe"
                )
            state.optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(task.model.parameters(), CLIP_NORM)
            state.optimizer.step()
            update_ema(state.ema_model, task.model, step, recipe.averaging)
            for name, value in {"loss": loss.item(), **parts}.items():
                sums[name] = sums.get(name, 0.0) + value
            step += 1
            advance()
    return {name: value / task.steps for name, value in sums.items()}


def fit(task: TrainingTask[Net], recipe: Recipe, folder: Path) -> tuple[list[dict[str, float]], bool]:
    """Train to the last epoch of the recipe or to Ctrl-C, then load the kept averaged weights into `task.model`.

    Return the history, one entry an epoch, and whether all epochs are complete. `folder` holds the checkpoint; an earlier
    one there is resumed. Raise MoodringError if the loss is not finite, the checkpoint differs, or no epoch is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ema_model = deepcopy(task.model).eval().requires_grad_(False)
    state = TrainingState(0, make_optimizer(task.model, recipe), ema_model, [], -math.inf)
    if load_checkpoint(folder, task, state, recipe):
        print(f"{folder / CHECKPOINT}: resuming after epoch {state.epoch}", flush=True)
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
            duration_s = time.monotonic() - started_s
            left = f", {duration_s * (recipe.epochs - state.epoch) / 60:.0f} min left" if state.epoch < recipe.epochs else ""
            print(f"epoch {state.epoch}/{recipe.epochs} {duration_s:.0f} s{left} {figures}", flush=True)
    except KeyboardInterrupt:
        finished = False
        print("training interrupted: the best weights so far are kept; run the same command to resume", flush=True)
    if not (folder / BEST).is_file():
        raise MoodringError("training interrupted before the end of the first epoch: there are no weights to keep")
    task.model.load_state_dict(torch.load(folder / BEST, weights_only=True))
    task.model.eval()
    return state.history, finished
