"""usage: python -m benchmarks.experiments.ablations --config FILE --data DIR --out DIR --json FILE ...

What each part of the speech branch is worth: one of its networks trained as it is, and again with one thing changed, with one
seed, tested on the actors of one fold in quiet and in noise. `--only NAME` trains that variant and stops; several can run at
once, and what is trained already is not trained again.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from moodring.errors import MoodringError
from moodring.evaluation.data.readers import read_sound
from moodring.evaluation.provenance import commit
from moodring.evaluation.speech import list_noise, mix_noise
from moodring.features.spec import SpeechSpec
from moodring.process import INTERRUPTED
from moodring.train.data.pool import open_pool
from moodring.train.data.speech_windows import clip_probabilities, extract_windows
from moodring.train.data.splits import split_recordings
from moodring.train.data.voices import Utterance, load_noises, load_utterances
from moodring.train.models.speech import EMBEDDING, SpeechNet, predict
from moodring.train.recipe import SpeechRecipe, read_recipe
from moodring.train.run_folder import write_json
from moodring.train.speech import TrainingData, train_network

SNR_DB = (10, 0)
NOISY_STEP = 2  # of the test clips, one in so many is heard in every noise


class MeanOverTime(nn.Module):
    """What the attentive statistics are compared with: [B, C, T] -> [B, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=2)


def use_mean_pooling(model: SpeechNet) -> None:
    for member, (_, width) in zip(model.members, model.sizes, strict=True):
        member.statistics, member.project = MeanOverTime(), nn.Linear(width, EMBEDDING)


@dataclass(frozen=True, slots=True)
class Variant:
    """What is said of it, what of the features it changes, and what of the network."""

    title: str
    spec: SpeechSpec = SpeechSpec()
    modify_network: Callable[[SpeechNet], None] | None = None


VARIANTS = {
    "base": Variant("as it is"),
    "no_noise_removal": Variant("without noise removal", SpeechSpec(noise_reduction="none")),
    "log_mel": Variant(
        "log mel energies for cepstra", SpeechSpec(mfcc=dataclasses.replace(SpeechSpec().mfcc, output="log_mel"))
    ),
    "no_pitch": Variant("without pitch and voicing", SpeechSpec(pitch=False)),
    "deltas": Variant("with deltas", SpeechSpec(deltas=1)),
    "mean_pooling": Variant("mean over time for attentive statistics", modify_network=use_mean_pooling),
}


def measure(variant: Variant, recipe: SpeechRecipe, data_dir: Path, out_dir: Path, cache: Path) -> dict[str, Any] | None:
    """Train one variant and test it; None where it was interrupted."""
    spec = variant.spec
    voices = load_utterances(data_dir, spec)
    parts = split_recordings(voices, recipe.fold, no_validation=True)
    noises = load_noises(data_dir, spec.mfcc.rate_hz)
    labels = np.array([voice.clip.label for voice in voices], np.int64)
    speech_windows = extract_windows([voices[row] for row in parts.validation], spec)
    training_data = TrainingData(
        labels, parts, speech_windows, open_pool(recipe, spec, voices, noises, cache), voices, no_validation=True, spec=spec
    )
    model, _, finished = train_network(recipe, training_data, out_dir, variant.modify_network)
    if not finished:
        return None
    test = [voices[row] for row in parts.test]
    noisy_subset = test[::NOISY_STEP]
    in_noise: dict[str, dict[str, float]] = {}
    for path in list_noise(data_dir / "noise"):
        noise = read_sound(path)
        for snr in SNR_DB:
            sounds = mix_noise([voice.samples for voice in noisy_subset], noise, snr)
            noisy = [dataclasses.replace(voice, samples=sound) for voice, sound in zip(noisy_subset, sounds, strict=True)]
            in_noise.setdefault(f"{snr}", {})[path.stem] = _accuracy(model, noisy, spec)
    return {
        "says": variant.title,
        "clean": _accuracy(model, test, spec),
        "mean_by_snr_db": {snr: float(np.mean(list(by_noise.values()))) for snr, by_noise in in_noise.items()},
        "by_snr_db": in_noise,
    }


def _accuracy(model: SpeechNet, voices: list[Utterance], spec: SpeechSpec) -> float:
    speech_windows = extract_windows(voices, spec)
    probabilities, labels = clip_probabilities(predict(model, speech_windows.windows)["logits"], speech_windows)
    return float((probabilities.argmax(axis=1) == labels).mean())


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.ablations", description=__doc__)
    for name in ("--config", "--data", "--out", "--json"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--only", choices=VARIANTS, help="train this one and stop")
    args = parser.parse_args(arguments)
    recipe = read_recipe(args.config, "speech")
    torch.set_num_threads(recipe.threads if args.only is None else 1)
    torch.use_deterministic_algorithms(mode=True)
    measured: dict[str, Any] = {}
    try:
        for name in [args.only] if args.only else VARIANTS:
            figures = measure(VARIANTS[name], recipe, args.data, args.out / name, args.out / "cache")
            if figures is None:
                return INTERRUPTED
            measured[name] = figures
            print(f"{figures['says']}: {figures['clean']:.4f}, in noise {figures['mean_by_snr_db']}", flush=True)
    except MoodringError as error:
        print(f"moodring: {error}", file=sys.stderr)
        return error.exit_code
    if args.only:
        return 0
    write_json(
        args.json,
        {
            "what": "ablations: one network of the speech branch with one thing changed",
            "protocol": f"one seed; tested on fold {recipe.fold}'s four unheard actors, every clip clean, one in {NOISY_STEP} "
            "in each kind of noise, none of which training used",
            "commit": commit(),
            "command": "make ablations",
            "seed": recipe.seed,
            "variants": measured,
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
