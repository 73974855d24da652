"""usage: python -m benchmarks.experiments.ablations --config FILE --data DIR --out DIR --json FILE ...

Ablations of the speech branch. Trains one network unchanged and with one change at a time, with one seed, and tests each on the
actors of one fold, clean and in noise. `--only NAME` trains that variant and stops, so that several can run in parallel. A
trained variant is not trained again.
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
NOISY_STEP = 2  # every second test clip is tested in every noise


class MeanOverTime(nn.Module):
    """Mean pooling over time, the baseline of attentive statistics: [B, C, T] -> [B, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=2)


def use_mean_pooling(model: SpeechNet) -> None:
    for member, (_, width) in zip(model.members, model.sizes, strict=True):
        member.statistics, member.project = MeanOverTime(), nn.Linear(width, EMBEDDING)


@dataclass(frozen=True, slots=True)
class Variant:
    """One ablation: its title in reports, its features, and the function that changes the network."""

    title: str
    spec: SpeechSpec = SpeechSpec()
    modify_network: Callable[[SpeechNet], None] | None = None


VARIANTS = {
    "base": Variant("unchanged"),
    "no_noise_removal": Variant("without noise removal", SpeechSpec(noise_reduction="none")),
    "log_mel": Variant(
        "log mel energies instead of cepstra", SpeechSpec(mfcc=dataclasses.replace(SpeechSpec().mfcc, output="log_mel"))
    ),
    "no_pitch": Variant("without pitch and voicing", SpeechSpec(pitch=False)),
    "deltas": Variant("with deltas", SpeechSpec(deltas=1)),
    "mean_pooling": Variant("mean over time instead of attentive statistics", modify_network=use_mean_pooling),
}


def measure(variant: Variant, recipe: SpeechRecipe, data_dir: Path, out_dir: Path, cache: Path) -> dict[str, Any] | None:
    """Train one variant and test it; return its figures, or None if the training was interrupted."""
    spec = variant.spec
    voices = load_utterances([data_dir], spec)
    parts = split_recordings(voices, recipe.fold, no_validation=True)
    noises = load_noises([data_dir], spec.mfcc.rate_hz)
    speech_windows = extract_windows([voices[row] for row in parts.validation], spec)
    training_data = TrainingData(
        parts, speech_windows, open_pool(recipe, spec, voices, noises, cache), voices, no_validation=True, spec=spec
    )
    model, _, finished = train_network(recipe, training_data, out_dir, variant.modify_network)
    if not finished:
        return None
    test = [voices[row] for row in parts.test]
    noisy_subset = test[::NOISY_STEP]
    by_snr: dict[str, dict[str, float]] = {}
    for path in list_noise(data_dir / "noise"):
        noise = read_sound(path)
        for snr in SNR_DB:
            sounds = mix_noise([voice.samples for voice in noisy_subset], noise, snr)
            noisy = [dataclasses.replace(voice, samples=sound) for voice, sound in zip(noisy_subset, sounds, strict=True)]
            by_snr.setdefault(f"{snr}", {})[path.stem] = _accuracy(model, noisy, spec)
    return {
        "says": variant.title,
        "clean": _accuracy(model, test, spec),
        "mean_by_snr_db": {snr: float(np.mean(list(by_noise.values()))) for snr, by_noise in by_snr.items()},
        "by_snr_db": by_snr,
    }


def _accuracy(model: SpeechNet, voices: list[Utterance], spec: SpeechSpec) -> float:
    speech_windows = extract_windows(voices, spec)
    probabilities, labels = clip_probabilities(predict(model, speech_windows.windows)["logits"], speech_windows)
    return float((probabilities.argmax(axis=1) == labels).mean())


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments.ablations", description=__doc__)
    for name in ("--config", "--data", "--out", "--json"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--only", choices=VARIANTS, help="train this variant and stop")
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
            "what": "ablations: one network of the speech branch with one change at a time",
            "protocol": f"one seed; tested on the four held-out actors of fold {recipe.fold}: every clip clean, one in "
            f"{NOISY_STEP} in each kind of noise; training uses none of these noises",
            "commit": commit(),
            "command": "make ablations",
            "seed": recipe.seed,
            "variants": measured,
        },
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
