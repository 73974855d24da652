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
from moodring.train.data.augment_images import apply_mixup
from moodring.train.data.pool import AugmentedPool, WindowSampler, open_pool
from moodring.train.data.splits import split_actors
from moodring.train.data.voices import Utterance, load_noises, load_utterances
from moodring.train.face import soft_cross_entropy
from moodring.train.loop import TrainingTask, fit
from moodring.train.models.speech import OUTPUTS, SpeechNet, build_ensemble
from moodring.train.recipe import SpeechRecipe
from moodring.train.run_folder import plot_confusion, plot_curves, save_weights, softmax, write_json

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Batch = tuple[Tensor, Tensor, Tensor]  # windows [B,300,40], targets [B,8], usable [B]

DATA = [{"name": "RAVDESS speech", "licence": "CC BY-NC-SA 4.0", "part": "training actors"}]
MIXED_SEED = 3
REJECTED_SPEECH_QUANTILE = 0.005  # of unheard windows of speech may be taken for none
MAX_USABLE_THRESHOLD = (
    4.0  # logit: of voices recorded elsewhere (TESS) one in fourteen lies below this, one in eight below five
)
NOISE_DATA = {"name": "ESC-10", "licence": "CC BY 3.0", "part": "all but the last fold at hand, as noise"}


@dataclass(frozen=True, slots=True)
class SpeechWindows:
    """The windows the runtime would see of some clips, float32 [W, window_frames, columns].

    `clip` [W] says whose each is, `counts` [W] whether its clip's answer rests on it, `labels` [clips] what was acted.
    """

    windows: F32
    clip: I64
    labels: I64
    weights: NDArray[np.bool_]


def extract_windows(voices: list[Utterance], spec: SpeechSpec) -> SpeechWindows:
    pieces = [evaluation.clip_windows(voice.samples, spec) for voice in voices]
    clip = np.repeat(np.arange(len(voices)), [len(piece) for piece in pieces])
    windows = [window for piece in pieces for window in piece]
    voiced = np.array([window.voiced for window in windows])
    max_voiced = np.zeros(len(voices))
    np.maximum.at(max_voiced, clip, voiced)
    labels = np.array([voice.clip.label for voice in voices], np.int64)
    return SpeechWindows(np.stack([window.features for window in windows]), clip, labels, voiced == max_voiced[clip])


def batches(labels: I64, rows: I64, sampler: WindowSampler, recipe: SpeechRecipe, epoch: int) -> Iterator[Batch]:
    """Yield an epoch: `views` windows of each of these recordings, each batch with a few windows that hold no speech."""
    rng = np.random.default_rng([recipe.seed, epoch])
    order = rng.permutation(np.tile(rows, recipe.views))
    for start in range(0, len(order) - recipe.batch + 1, recipe.batch):
        chosen = order[start : start + recipe.batch]
        speech = torch.from_numpy(sampler.voices(chosen.tolist(), rng))
        others = torch.from_numpy(sampler.nonspeech(recipe.nonspeech, rng))
        targets = torch.eye(CLASSES)[labels[chosen]]
        speech, targets = apply_mixup((speech, targets), rng, recipe.mixup)
        yield (
            torch.cat([speech, others]),
            torch.cat([targets, torch.zeros(recipe.nonspeech, CLASSES)]),
            torch.cat([torch.ones(recipe.batch), torch.zeros(recipe.nonspeech)]),
        )


def loss(model: nn.Module, batch: Batch, recipe: SpeechRecipe) -> tuple[Tensor, dict[str, float]]:
    windows, targets, usable = batch
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
        _, logits, usable_logit = model(windows)
    class_loss = soft_cross_entropy(logits.float(), targets, recipe.label_smoothing)
    usable_loss = functional.binary_cross_entropy_with_logits(usable_logit.float()[:, 0], usable)
    return class_loss + recipe.usable_weight * usable_loss, {"loss_class": class_loss.item(), "loss_usable": usable_loss.item()}


@torch.no_grad()
def predict(model: nn.Module, windows: F32, batch: int = 128) -> dict[str, F32]:
    """Run the network over windows [N, 300, 42]; return its outputs by name."""
    pieces: list[list[F32]] = [[], [], []]
    for start in range(0, len(windows), batch):
        for piece, output in zip(pieces, model(torch.from_numpy(windows[start : start + batch])), strict=True):
            piece.append(output.numpy())
    return {name: np.concatenate(piece) for name, piece in zip(OUTPUTS, pieces, strict=True)}


def clip_probabilities(logits: F32, speech_windows: SpeechWindows, temperature: float = 1.0) -> tuple[NDArray[np.float64], I64]:
    """Average the fullest hops of each clip that has any; return probabilities [C, 8] and the clips' labels [C]."""
    sums = np.zeros((len(speech_windows.labels), CLASSES))
    np.add.at(sums, speech_windows.clip, speech_windows.weights[:, None] * softmax(logits, temperature))
    has_windows = sums.sum(axis=1) > 0
    return sums[has_windows] / sums[has_windows].sum(axis=1, keepdims=True), speech_windows.labels[has_windows]


def fit_clip_temperature(logits: F32, speech_windows: SpeechWindows) -> float:
    """Return the temperature at which the clips' mean probabilities are as sure, on average, as they are right.

    Clarté et al. 2023, "Expectation consistency for calibration of neural networks". It is fitted on what is reported: the mean
    over hops is less sure than each of them, so that a fit on hops would leave it too modest.
    """

    def gap(temperature: float) -> float:
        probabilities, labels = clip_probabilities(logits, speech_windows, temperature)
        return abs(float(probabilities.max(axis=1).mean() - (probabilities.argmax(axis=1) == labels).mean()))

    return round(float(min(np.exp(np.linspace(np.log(0.25), np.log(4.0), 201)), key=gap)), 4)


def usable_threshold(usable: F32) -> float:
    """Return the logit above which nearly all of these windows of speech lie; `usable` as published is a half there.

    Zero is where the network itself draws the line: much that it never met, such as a cat, lies above that but far below
    speech. More than `SUREST` is never asked: actors in one studio are surer speech than other people.
    """
    return round(min(max(0.0, float(np.quantile(usable, REJECTED_SPEECH_QUANTILE))), MAX_USABLE_THRESHOLD), 3)


def validate(model: nn.Module, speech_windows: SpeechWindows, nonspeech: F32) -> dict[str, float]:
    """Figures on the validation actors' clips. The score is the likelihood: two actors are too few to choose by accuracy."""
    outs = predict(model, speech_windows.windows)
    probabilities, labels = clip_probabilities(outs["logits"], speech_windows)
    negative_log = float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-9)).mean())
    return {
        "validation_loss": negative_log,
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "speech_usable": float((outs["usable"] > 0).mean()),
        "nonspeech_refused": float((predict(model, nonspeech)["usable"] <= 0).mean()),
        "score": -negative_log,
    }


def summarize(model: nn.Module, speech_windows: SpeechWindows) -> dict[str, Any]:
    """Calibrate on the validation actors' clips and measure them."""
    outs = predict(model, speech_windows.windows)
    temperature = fit_clip_temperature(outs["logits"], speech_windows)
    probabilities, labels = clip_probabilities(outs["logits"], speech_windows, temperature)
    return {
        "temperature": {"logits": temperature},
        "usable_line": usable_threshold(outs["usable"]),
        "validation": {"logits": classification_metrics(probabilities, labels)},
    }


def actors_of(voices: Sequence[Utterance], rows: I64) -> list[int]:
    return sorted({voices[row].clip.actor for row in rows})


@dataclass(frozen=True, slots=True)
class RecordingSplit:
    """Which recordings train, which choose and calibrate, and which are not heard: rows of all voices, int64."""

    train: I64
    validation: I64
    test: I64


def split_recordings(
    voices: Sequence[Utterance], fold: int | None, *, mix_actors: bool = False, no_validation: bool = False
) -> RecordingSplit:
    """Split the recordings by actor.

    `whole` trains on the validation actors as well, who then choose nothing. `mixed` splits as many recordings by chance, so
    that every actor is heard in training.
    """
    actors = np.array([voice.clip.actor for voice in voices])
    split = split_actors(actors.tolist(), fold)
    if no_validation:
        split = replace(split, train=tuple(sorted(split.train + split.validation)))
    parts = [np.flatnonzero(np.isin(actors, side)) for side in (split.train, split.validation, split.test)]
    if mix_actors:
        order = np.random.default_rng(MIXED_SEED).permutation(len(voices))
        parts = [np.sort(part) for part in np.split(order, np.cumsum([len(part) for part in parts])[:-1])]
    return RecordingSplit(*parts)


def _protocol(actors: dict[str, list[int]], *, mix_actors: bool, no_validation: bool) -> str:
    if mix_actors:
        return "actors mixed: figures inflated"
    chose = "nobody chose" if no_validation else f"{actors['validation']} chose and calibrated"
    return f"actors apart: {actors['test']} unheard, {chose}"


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What every network of the branch is trained on and watched with."""

    labels: I64
    parts: RecordingSplit
    speech_windows: SpeechWindows  # of the validation actors
    pool: AugmentedPool
    voices: Sequence[Utterance]
    no_validation: bool
    spec: SpeechSpec = SpeechSpec()


def train_network(
    recipe: SpeechRecipe, training_data: TrainingData, run_dir: Path, modify_network: Callable[[SpeechNet], None] | None = None
) -> tuple[SpeechNet, list[dict[str, float]], bool]:
    """Train one network, after it was changed where that is wanted; return it, its history and whether every epoch was done."""
    spec, rows = training_data.spec, training_data.parts.train
    sampler = WindowSampler(training_data.pool, recipe, spec, training_data.voices)
    nonspeech = sampler.nonspeech(200, np.random.default_rng([recipe.seed, 77]), validation=True)
    torch.manual_seed(recipe.seed)
    model = SpeechNet(spec.columns, [(recipe.early, recipe.width)], recipe.dropout)
    if modify_network is not None:
        modify_network(model)
    task = TrainingTask(
        model=model,
        steps=len(rows) * recipe.views // recipe.batch,
        batches=lambda epoch: batches(training_data.labels, rows, sampler, recipe, epoch),
        loss=lambda net, batch: loss(net, batch, recipe),
        validate=lambda net: validate(net, training_data.speech_windows, nonspeech),
        keep_last=training_data.no_validation,
    )
    history, finished = fit(task, recipe, run_dir)
    return model, history, finished


def train_speech(
    recipe: SpeechRecipe,
    data_dir: Path,
    out_dir: Path,
    first_recipe: SpeechRecipe | None = None,
    cache: Path | None = None,
    *,
    mix_actors: bool = False,
    no_validation: bool = False,
) -> bool:
    """Train, write OUT/speech.safetensors, its card and the run folder OUT/speech; return whether every epoch was done.

    `first`, where given, is another network of the branch, trained before in OUT/speech_first; the answer is the mean of both.
    `cache` keeps the pool of changed recordings: OUT/cache unless given. `whole` trains on the validation actors too and keeps
    the last averaged weights: a recipe that is settled has nothing left to choose. `mixed` shows what a split that mixes
    actors would have said; such a network is good for nothing else.
    """
    run_dir, spec = out_dir / "speech", SpeechSpec()
    voices = load_utterances(data_dir, spec)
    parts = split_recordings(voices, recipe.fold, mix_actors=mix_actors, no_validation=no_validation)
    labels = np.array([voice.clip.label for voice in voices], np.int64)
    speech_windows = extract_windows([voices[row] for row in parts.validation], spec)
    noises = load_noises(data_dir, spec.mfcc.rate_hz)
    pool = open_pool(recipe, spec, voices, noises, cache or out_dir / "cache")
    actors = {side: actors_of(voices, getattr(parts, side)) for side in ("train", "validation", "test")}
    print(f"speech: {len(parts.train)} recordings of actors {actors['train']} train, {actors['validation']} validate, "
          f"{actors['test']} unheard; {len(noises)} noise recordings", flush=True)  # fmt: skip
    training_data = TrainingData(labels, parts, speech_windows, pool, voices, no_validation)
    networks = []
    if first_recipe is not None:
        network, _, finished = train_network(first_recipe, training_data, out_dir / "speech_first")
        if not finished:
            return False
        networks.append(network)
    network, history, finished = train_network(recipe, training_data, run_dir)
    model = build_ensemble([*networks, network])
    summary = summarize(model, speech_windows)
    write_json(run_dir / "metrics.json", {"history": history, **summary})
    plot_curves(run_dir / "curves.png", history)
    plot_confusion(run_dir / "confusion.png", summary["validation"]["logits"]["confusion"], LABELS, "speech, validation")
    both = [each for each in (first_recipe, recipe) if each is not None]
    card = {
        "network": {"members": [[each.early, each.width] for each in both]},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "data": [*DATA, *([NOISE_DATA] if noises else [])],
        "protocol": _protocol(actors, mix_actors=mix_actors, no_validation=no_validation),
        "actors": actors,
        **summary,
    }
    if mix_actors:
        test_windows = extract_windows([voices[row] for row in parts.test], spec)
        probabilities, truth = clip_probabilities(
            predict(model, test_windows.windows)["logits"], test_windows, card["temperature"]["logits"]
        )
        card["test"] = classification_metrics(probabilities, truth)
    recipes = {"recipe": asdict(recipe), **({"first": asdict(first_recipe)} if first_recipe else {})}
    save_weights(out_dir, "speech", model, {**recipes, **card})
    return finished
