"""Train the speech branch on RAVDESS voices, actors kept apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from moodring.evaluation import speech as evaluation
from moodring.evaluation.metrics import classification_metrics
from moodring.features.spec import SpeechSpec
from moodring.labels import CLASSES, LABELS
from moodring.train.data.augment_images import mix
from moodring.train.data.pool import Pool, WindowDrawer, open_pool
from moodring.train.data.splits import split_actors
from moodring.train.data.voices import Voice, load_noises, load_voices
from moodring.train.face import soft_cross_entropy
from moodring.train.loop import Task, fit
from moodring.train.models.speech import OUTPUTS, SpeechNet, join
from moodring.train.recipe import SpeechRecipe
from moodring.train.run_folder import plot_confusion, plot_curves, save_weights, softmax, write_json

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Batch = tuple[Tensor, Tensor, Tensor]  # windows [B,300,40], targets [B,8], usable [B]

DATA = [{"name": "RAVDESS speech", "licence": "CC BY-NC-SA 4.0", "part": "training actors"}]
MIXED_SEED = 3
PASSED = 0.005  # of unheard windows of speech may be taken for none
SUREST = 4.0  # logit: of voices recorded elsewhere (TESS) one in fourteen lies below this, one in eight below five
NOISE_DATA = {"name": "ESC-10", "licence": "CC BY 3.0", "part": "all but the last fold at hand, as noise"}


@dataclass(frozen=True, slots=True)
class Hops:
    """The windows the runtime would see of some clips, float32 [W, window_frames, columns].

    `clip` [W] says whose each is, `counts` [W] whether its clip's answer rests on it, `labels` [clips] what was acted.
    """

    windows: F32
    clip: I64
    labels: I64
    counts: NDArray[np.bool_]


def hops_of(voices: list[Voice], spec: SpeechSpec) -> Hops:
    pieces = [evaluation.clip_windows(voice.samples, spec) for voice in voices]
    clip = np.repeat(np.arange(len(voices)), [len(piece) for piece in pieces])
    windows = [window for piece in pieces for window in piece]
    voiced = np.array([window.voiced for window in windows])
    most = np.zeros(len(voices))
    np.maximum.at(most, clip, voiced)
    labels = np.array([voice.clip.label for voice in voices], np.int64)
    return Hops(np.stack([window.features for window in windows]), clip, labels, voiced == most[clip])


def batches(labels: I64, rows: I64, drawer: WindowDrawer, recipe: SpeechRecipe, epoch: int) -> Iterator[Batch]:
    """Yield an epoch: `views` windows of each of these recordings, each batch with a few windows that hold no speech."""
    rng = np.random.default_rng([recipe.seed, epoch])
    order = rng.permutation(np.tile(rows, recipe.views))
    for start in range(0, len(order) - recipe.batch + 1, recipe.batch):
        chosen = order[start : start + recipe.batch]
        speech = torch.from_numpy(drawer.voices(chosen.tolist(), rng))
        others = torch.from_numpy(drawer.nonspeech(recipe.nonspeech, rng))
        targets = torch.eye(CLASSES)[labels[chosen]]
        speech, targets = mix((speech, targets), rng, recipe.mixup)
        yield (
            torch.cat([speech, others]),
            torch.cat([targets, torch.zeros(recipe.nonspeech, CLASSES)]),
            torch.cat([torch.ones(recipe.batch), torch.zeros(recipe.nonspeech)]),
        )


def loss(model: nn.Module, batch: Batch, recipe: SpeechRecipe) -> tuple[Tensor, dict[str, float]]:
    windows, targets, usable = batch
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
        _, logits, usable_logit = model(windows)
    by_class = soft_cross_entropy(logits.float(), targets, recipe.label_smoothing)
    by_use = functional.binary_cross_entropy_with_logits(usable_logit.float()[:, 0], usable)
    return by_class + recipe.usable_weight * by_use, {"loss_class": by_class.item(), "loss_usable": by_use.item()}


@torch.no_grad()
def answers(model: nn.Module, windows: F32, batch: int = 128) -> dict[str, F32]:
    """Run the network over windows [N, 300, 42]; return its outputs by name."""
    pieces: list[list[F32]] = [[], [], []]
    for start in range(0, len(windows), batch):
        for piece, output in zip(pieces, model(torch.from_numpy(windows[start : start + batch])), strict=True):
            piece.append(output.numpy())
    return {name: np.concatenate(piece) for name, piece in zip(OUTPUTS, pieces, strict=True)}


def clip_probabilities(logits: F32, hops: Hops, temperature: float = 1.0) -> tuple[NDArray[np.float64], I64]:
    """Average the fullest hops of each clip that has any; return probabilities [C, 8] and the clips' labels [C]."""
    sums = np.zeros((len(hops.labels), CLASSES))
    np.add.at(sums, hops.clip, hops.counts[:, None] * softmax(logits, temperature))
    heard = sums.sum(axis=1) > 0
    return sums[heard] / sums[heard].sum(axis=1, keepdims=True), hops.labels[heard]


def fit_clip_temperature(logits: F32, hops: Hops) -> float:
    """Return the temperature at which the clips' mean probabilities are as sure, on average, as they are right.

    Clarté et al. 2023, "Expectation consistency for calibration of neural networks". It is fitted on what is reported: the mean
    over hops is less sure than each of them, so that a fit on hops would leave it too modest.
    """

    def gap(temperature: float) -> float:
        probabilities, labels = clip_probabilities(logits, hops, temperature)
        return abs(float(probabilities.max(axis=1).mean() - (probabilities.argmax(axis=1) == labels).mean()))

    return round(float(min(np.exp(np.linspace(np.log(0.25), np.log(4.0), 201)), key=gap)), 4)


def usable_line(usable: F32) -> float:
    """Return the logit above which nearly all of these windows of speech lie; `usable` as published is a half there.

    Zero is where the network itself draws the line: much that it never met, such as a cat, lies above that but far below
    speech. More than `SUREST` is never asked: actors in one studio are surer speech than other people.
    """
    return round(min(max(0.0, float(np.quantile(usable, PASSED))), SUREST), 3)


def validate(model: nn.Module, hops: Hops, nonspeech: F32) -> dict[str, float]:
    """Figures on the validation actors' clips. The score is the likelihood: two actors are too few to choose by accuracy."""
    outs = answers(model, hops.windows)
    probabilities, labels = clip_probabilities(outs["logits"], hops)
    negative_log = float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-9)).mean())
    return {
        "validation_loss": negative_log,
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "speech_usable": float((outs["usable"] > 0).mean()),
        "nonspeech_refused": float((answers(model, nonspeech)["usable"] <= 0).mean()),
        "score": -negative_log,
    }


def summarise(model: nn.Module, hops: Hops) -> dict[str, Any]:
    """Calibrate on the validation actors' clips and measure them."""
    outs = answers(model, hops.windows)
    temperature = fit_clip_temperature(outs["logits"], hops)
    probabilities, labels = clip_probabilities(outs["logits"], hops, temperature)
    return {
        "temperature": {"logits": temperature},
        "usable_line": usable_line(outs["usable"]),
        "validation": {"logits": classification_metrics(probabilities, labels)},
    }


def actors_of(voices: Sequence[Voice], rows: I64) -> list[int]:
    return sorted({voices[row].clip.actor for row in rows})


@dataclass(frozen=True, slots=True)
class Parts:
    """Which recordings train, which choose and calibrate, and which are not heard: rows of all voices, int64."""

    train: I64
    validation: I64
    test: I64


def parts_of(voices: Sequence[Voice], fold: int | None, *, mixed: bool = False, whole: bool = False) -> Parts:
    """Split the recordings by actor.

    `whole` trains on the validation actors as well, who then choose nothing. `mixed` splits as many recordings by chance, so
    that every actor is heard in training.
    """
    actors = np.array([voice.clip.actor for voice in voices])
    split = split_actors(actors.tolist(), fold)
    if whole:
        split = replace(split, train=tuple(sorted(split.train + split.validation)))
    parts = [np.flatnonzero(np.isin(actors, side)) for side in (split.train, split.validation, split.test)]
    if mixed:
        order = np.random.default_rng(MIXED_SEED).permutation(len(voices))
        parts = [np.sort(part) for part in np.split(order, np.cumsum([len(part) for part in parts])[:-1])]
    return Parts(*parts)


def _protocol(actors: dict[str, list[int]], *, mixed: bool, whole: bool) -> str:
    if mixed:
        return "actors mixed: figures inflated"
    chose = "nobody chose" if whole else f"{actors['validation']} chose and calibrated"
    return f"actors apart: {actors['test']} unheard, {chose}"


@dataclass(frozen=True, slots=True)
class Heard:
    """What every network of the branch is trained on and watched with."""

    labels: I64
    parts: Parts
    hops: Hops  # of the validation actors
    pool: Pool
    voices: Sequence[Voice]
    whole: bool
    spec: SpeechSpec = SpeechSpec()


def train_network(
    recipe: SpeechRecipe, heard: Heard, run_dir: Path, change: Callable[[SpeechNet], None] | None = None
) -> tuple[SpeechNet, list[dict[str, float]], bool]:
    """Train one network, after it was changed where that is wanted; return it, its history and whether every epoch was done."""
    spec, rows = heard.spec, heard.parts.train
    drawer = WindowDrawer(heard.pool, recipe, spec, heard.voices)
    nonspeech = drawer.nonspeech(200, np.random.default_rng([recipe.seed, 77]), validation=True)
    torch.manual_seed(recipe.seed)
    model = SpeechNet(spec.columns, [(recipe.early, recipe.width)], recipe.dropout)
    if change is not None:
        change(model)
    task = Task(
        model=model,
        steps=len(rows) * recipe.views // recipe.batch,
        batches=lambda epoch: batches(heard.labels, rows, drawer, recipe, epoch),
        loss=lambda net, batch: loss(net, batch, recipe),
        validate=lambda net: validate(net, heard.hops, nonspeech),
        last=heard.whole,
    )
    history, finished = fit(task, recipe, run_dir)
    return model, history, finished


def train_speech(
    recipe: SpeechRecipe,
    data_dir: Path,
    out_dir: Path,
    first: SpeechRecipe | None = None,
    cache: Path | None = None,
    *,
    mixed: bool = False,
    whole: bool = False,
) -> bool:
    """Train, write OUT/speech.safetensors, its card and the run folder OUT/speech; return whether every epoch was done.

    `first`, where given, is another network of the branch, trained before in OUT/speech_first; the answer is the mean of both.
    `cache` keeps the pool of changed recordings: OUT/cache unless given. `whole` trains on the validation actors too and keeps
    the last averaged weights: a recipe that is settled has nothing left to choose. `mixed` shows what a split that mixes
    actors would have said; such a network is good for nothing else.
    """
    run_dir, spec = out_dir / "speech", SpeechSpec()
    voices = load_voices(data_dir, spec)
    parts = parts_of(voices, recipe.fold, mixed=mixed, whole=whole)
    labels = np.array([voice.clip.label for voice in voices], np.int64)
    hops = hops_of([voices[row] for row in parts.validation], spec)
    noises = load_noises(data_dir, spec.mfcc.rate_hz)
    pool = open_pool(recipe, spec, voices, noises, cache or out_dir / "cache")
    actors = {side: actors_of(voices, getattr(parts, side)) for side in ("train", "validation", "test")}
    print(f"speech: {len(parts.train)} recordings of actors {actors['train']} train, {actors['validation']} validate, "
          f"{actors['test']} unheard; {len(noises)} noise recordings", flush=True)  # fmt: skip
    heard = Heard(labels, parts, hops, pool, voices, whole)
    networks = []
    if first is not None:
        network, _, finished = train_network(first, heard, out_dir / "speech_first")
        if not finished:
            return False
        networks.append(network)
    network, history, finished = train_network(recipe, heard, run_dir)
    model = join([*networks, network])
    summary = summarise(model, hops)
    write_json(run_dir / "metrics.json", {"history": history, **summary})
    plot_curves(run_dir / "curves.png", history)
    plot_confusion(run_dir / "confusion.png", summary["validation"]["logits"]["confusion"], LABELS, "speech, validation")
    both = [each for each in (first, recipe) if each is not None]
    card = {
        "network": {"members": [[each.early, each.width] for each in both]},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "data": [*DATA, *([NOISE_DATA] if noises else [])],
        "protocol": _protocol(actors, mixed=mixed, whole=whole),
        "actors": actors,
        **summary,
    }
    if mixed:
        unheard = hops_of([voices[row] for row in parts.test], spec)
        probabilities, truth = clip_probabilities(
            answers(model, unheard.windows)["logits"], unheard, card["temperature"]["logits"]
        )
        card["test"] = classification_metrics(probabilities, truth)
    recipes = {"recipe": asdict(recipe), **({"first": asdict(first)} if first else {})}
    save_weights(out_dir, "speech", model, {**recipes, **card})
    return finished
