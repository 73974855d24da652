"""Training of the speech branch on one or more corpora, with separate speakers for training, validation and test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from moodring.evaluation.data.catalogue import CATALOGUE
from moodring.evaluation.metrics import classification_metrics
from moodring.features.audio.baseline import BaselineInfo
from moodring.features.spec import SpeechSpec
from moodring.labels import CLASSES, LABELS
from moodring.train.calibration import TEMPERATURES, select_temperature
from moodring.train.data.augment_images import apply_mixup
from moodring.train.data.draw import draw_order, draw_weights
from moodring.train.data.pool import AugmentedPool, WindowSampler, open_pool
from moodring.train.data.speaker_means import VoiceMeans
from moodring.train.data.speech_windows import SpeechWindows, clip_probabilities, extract_windows
from moodring.train.data.splits import RecordingSplit, actors_of, speakers_of, split_recordings
from moodring.train.data.voices import Utterance, load_noises, load_utterances
from moodring.train.loop import TrainingTask, fit
from moodring.train.losses import soft_cross_entropy
from moodring.train.models.speech import SpeechNet, build_ensemble, predict
from moodring.train.recipe import SpeechRecipe
from moodring.train.run_folder import save_weights, write_run_folder
from moodring.types import F32

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Batch = tuple[Tensor, Tensor, Tensor]  # windows [B,300,42], targets [B,8], usable [B]

NOISE_DATA = {"name": "ESC-10", "licence": "CC BY 3.0", "part": "all but the last fold at hand, as noise"}
PARTS = {"train": "for training", "validation": "for validation", "test": "held out"}
REJECTED_SPEECH_QUANTILE = 0.005  # share of held-out speech windows below the usable threshold
MAX_USABLE_THRESHOLD = 4.0  # logit; 7 % of the windows of another corpus (TESS) are below 4, 13 % below 5


def batches(training_data: TrainingData, sampler: WindowSampler, recipe: SpeechRecipe, epoch: int) -> Iterator[Batch]:
    """Yield the batches of an epoch: windows of the training recordings, and non-speech windows."""
    rng = np.random.default_rng([recipe.seed, epoch])
    rows, voices = training_data.parts.train, training_data.voices
    order = draw_order(draw_weights(voices, rows, recipe), rows, recipe, rng)
    for start in range(0, len(order) - recipe.batch + 1, recipe.batch):
        chosen = order[start : start + recipe.batch]
        speech = torch.from_numpy(sampler.draw_speech(chosen.tolist(), rng))
        others = torch.from_numpy(sampler.draw_nonspeech(recipe.nonspeech, rng))
        targets = torch.from_numpy(np.stack([voices[row].target(recipe.votes) for row in chosen]))
        speech, targets = apply_mixup((speech, targets), rng, recipe.mixup)
        yield (
            torch.cat([speech, others]),
            torch.cat([targets, torch.zeros(recipe.nonspeech, CLASSES)]),
            torch.cat([torch.ones(recipe.batch), torch.zeros(recipe.nonspeech)]),
        )


def loss(model: nn.Module, batch: Batch, recipe: SpeechRecipe) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted sum of the class loss and the usable loss, and its parts."""
    windows, targets, usable = batch
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
        _, logits, usable_logit = model(windows)
    class_loss = soft_cross_entropy(logits.float(), targets, recipe.label_smoothing)
    usable_loss = functional.binary_cross_entropy_with_logits(usable_logit.float()[:, 0], usable)
    return class_loss + recipe.usable_weight * usable_loss, {"loss_class": class_loss.item(), "loss_usable": usable_loss.item()}


def fit_clip_temperature(logits: F32, speech_windows: SpeechWindows) -> float:
    """Return the temperature at which the mean confidence of the recordings is closest to their accuracy.

    The fit uses the probabilities of recordings, which the evaluation reports. Their confidence is lower than that of a
    window, so that a temperature fitted to windows would be too high.
    """
    candidates = [clip_probabilities(logits, speech_windows, temperature) for temperature in TEMPERATURES]
    return select_temperature([probabilities for probabilities, _ in candidates], candidates[0][1])


def usable_threshold(usable: F32) -> float:
    """Return the usable logit that 99.5 % of these speech windows exceed, limited to 0..4. Export maps it to 0.5.

    Zero is the threshold of the training. Unknown sounds, such as a cat, have logits above zero but far below speech. The upper
    limit exists because studio recordings of actors have higher logits than other speech.
    """
    return round(min(max(0.0, float(np.quantile(usable, REJECTED_SPEECH_QUANTILE))), MAX_USABLE_THRESHOLD), 3)


def validate(model: nn.Module, speech_windows: SpeechWindows, nonspeech: F32) -> dict[str, float]:
    """Measure the network on the validation recordings and non-speech windows.

    The score is the log-likelihood: with two actors, the accuracy is too coarse to select an epoch.
    """
    outputs = predict(model, speech_windows.windows)
    probabilities, labels = clip_probabilities(outputs["logits"], speech_windows)
    negative_log = float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-9)).mean())
    return {
        "validation_loss": negative_log,
        "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "speech_usable": float((outputs["usable"] > 0).mean()),
        "nonspeech_refused": float((predict(model, nonspeech)["usable"] <= 0).mean()),
        "score": -negative_log,
    }


def summarize(model: nn.Module, speech_windows: SpeechWindows) -> dict[str, Any]:
    """Fit temperature and usable threshold on the validation recordings, and return them with the metrics."""
    outputs = predict(model, speech_windows.windows)
    temperature = fit_clip_temperature(outputs["logits"], speech_windows)
    probabilities, labels = clip_probabilities(outputs["logits"], speech_windows, temperature)
    return {
        "temperature": {"logits": temperature},
        "usable_line": usable_threshold(outputs["usable"]),
        "validation": {"logits": classification_metrics(probabilities, labels)},
    }


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Training and validation data of every network of the branch."""

    parts: RecordingSplit
    speech_windows: SpeechWindows  # of the validation recordings
    pool: AugmentedPool
    voices: Sequence[Utterance]
    no_validation: bool
    spec: SpeechSpec = SpeechSpec()
    noise_recordings: int = 0

    def baseline(self, recipe: SpeechRecipe) -> BaselineInfo | None:
        """Return the baseline of the training speakers; None if the recipe has none."""
        if not recipe.baseline:
            return None
        means = VoiceMeans(self.pool.sums, self.pool.voiced, self.voices, recipe.versions)
        return means.info(self.parts.train)

    @property
    def actors(self) -> dict[str, list[int]]:
        """RAVDESS actors of the parts train, validation and test."""
        return {part: actors_of(self.voices, getattr(self.parts, part)) for part in PARTS}

    @property
    def speakers(self) -> dict[str, list[str]]:
        """Speakers of the parts train, validation and test."""
        return {part: speakers_of(self.voices, getattr(self.parts, part)) for part in PARTS}


def load_training_data(
    recipe: SpeechRecipe, folders: Sequence[Path], cache: Path, *, mix_actors: bool, no_validation: bool
) -> TrainingData:
    """Read and split the recordings and open their augmented pool in the folder `cache`."""
    spec = SpeechSpec()
    voices = load_utterances(folders, spec)
    parts = split_recordings(voices, recipe.fold, mix_actors=mix_actors, no_validation=no_validation)
    noises = load_noises(folders, spec.mfcc.rate_hz)
    return TrainingData(
        parts=parts,
        speech_windows=extract_windows([voices[row] for row in parts.validation], spec),
        pool=open_pool(recipe, spec, voices, noises, cache),
        voices=voices,
        no_validation=no_validation,
        spec=spec,
        noise_recordings=len(noises),
    )


def train_network(
    recipe: SpeechRecipe, training_data: TrainingData, run_dir: Path, modify_network: Callable[[SpeechNet], None] | None = None
) -> tuple[SpeechNet, list[dict[str, float]], bool]:
    """Train one network; `modify_network` changes it before the training.

    Return the network, its history and whether all epochs are complete.
    """
    spec, rows = training_data.spec, training_data.parts.train
    sampler = WindowSampler(training_data.pool, recipe, spec, training_data.voices, training_data.baseline(recipe))
    nonspeech = sampler.draw_nonspeech(200, np.random.default_rng([recipe.seed, 77]), validation=True)
    torch.manual_seed(recipe.seed)
    model = SpeechNet(spec.columns, [(recipe.early, recipe.width)], recipe.dropout)
    if modify_network is not None:
        modify_network(model)
    task = TrainingTask(
        model=model,
        steps=len(rows) * recipe.views // recipe.batch,
        batches=lambda epoch: batches(training_data, sampler, recipe, epoch),
        loss=lambda net, batch: loss(net, batch, recipe),
        validate=lambda net: validate(net, training_data.speech_windows, nonspeech),
        keep_last=training_data.no_validation,
    )
    history, finished = fit(task, recipe, run_dir)
    return model, history, finished


def train_speech(
    recipe: SpeechRecipe,
    folders: Sequence[Path],
    out_dir: Path,
    first_recipe: SpeechRecipe | None = None,
    cache: Path | None = None,
    *,
    mix_actors: bool = False,
    no_validation: bool = False,
) -> bool:
    """Train; write speech.safetensors, its card and the run folder `speech` into `out_dir`.

    Return whether all epochs are complete. With `first_recipe`, a second network is trained first, in OUT/speech_first, and the
    two form an ensemble. `cache` is the folder of the augmented pool, OUT/cache by default. With `no_validation`, the
    validation actors train as well and the last averaged weights are kept, for a recipe that is final. `mix_actors` measures
    the effect of a split that mixes actors; do not use such a network otherwise.
    """
    training_data = load_training_data(
        recipe, folders, cache or out_dir / "cache", mix_actors=mix_actors, no_validation=no_validation
    )
    _print_parts(training_data)
    networks = []
    if first_recipe is not None:
        first_network, _, finished = train_network(first_recipe, training_data, out_dir / "speech_first")
        if not finished:
            return False
        networks.append(first_network)
    network, history, finished = train_network(recipe, training_data, out_dir / "speech")
    baseline = training_data.baseline(recipe)
    model = build_ensemble([*networks, network])
    summary = summarize(model, training_data.speech_windows)
    write_run_folder(out_dir / "speech", history, summary, head="logits", labels=LABELS, title="speech, validation")
    card = {
        "recipe": asdict(recipe),
        **({"first": asdict(first_recipe)} if first_recipe else {}),
        "network": {"members": [[each.early, each.width] for each in (first_recipe, recipe) if each is not None]},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "data": [*describe_corpora(training_data), *([NOISE_DATA] if training_data.noise_recordings else [])],
        "protocol": _protocol(training_data.actors, mix_actors=mix_actors, no_validation=no_validation),
        "actors": training_data.actors,
        "speakers": training_data.speakers,
        **({"baseline": baseline.to_dict()} if baseline else {}),
        **summary,
    }
    if mix_actors:
        card["test"] = _test_metrics(model, training_data, summary["temperature"]["logits"])
    save_weights(out_dir, "speech", model, card)
    return finished


def _print_parts(training_data: TrainingData) -> None:
    for corpus in sorted({voice.corpus for voice in training_data.voices}):
        counts = []
        for part, words in PARTS.items():
            rows = [row for row in getattr(training_data.parts, part) if training_data.voices[row].corpus == corpus]
            speakers = {training_data.voices[row].speaker for row in rows}
            counts.append(f"{len(rows)} recordings of {len(speakers)} speakers {words}")
        print(f"{corpus}: {', '.join(counts)}", flush=True)
    print(f"{training_data.noise_recordings} noise recordings", flush=True)


def describe_corpora(training_data: TrainingData) -> list[dict[str, str]]:
    """Return name, licence and part of each corpus of the training, for the model card."""
    known = {each.folder: each for each in CATALOGUE}
    corpora = sorted({training_data.voices[row].corpus for row in training_data.parts.train})
    return [
        {
            "name": known[corpus].name if corpus in known else corpus,
            "licence": known[corpus].licence if corpus in known else "not stated",
            "part": "training actors" if corpus == "ravdess" else "training speakers",
        }
        for corpus in corpora
    ]


def _protocol(actors: dict[str, list[int]], *, mix_actors: bool, no_validation: bool) -> str:
    if mix_actors:
        return "actors mixed: figures inflated"
    chose = "nobody chose" if no_validation else f"{actors['validation']} chose and calibrated"
    return f"actors apart: {actors['test']} unheard, {chose}"


def _test_metrics(model: SpeechNet, training_data: TrainingData, temperature: float) -> dict[str, Any]:
    """Measure the network on the test recordings."""
    voices = [training_data.voices[row] for row in training_data.parts.test]
    test_windows = extract_windows(voices, training_data.spec)
    outputs = predict(model, test_windows.windows)
    return classification_metrics(*clip_probabilities(outputs["logits"], test_windows, temperature))
