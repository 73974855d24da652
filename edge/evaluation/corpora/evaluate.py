"""`moodring evaluate speech --corpus`: the clips of a corpus through the speech branch of a bundle.

The result of a clip is that of its window with the most voice, as on RAVDESS. With a baseline, the clips of a speaker are
processed one after the other in a random order, and the speech branch keeps what it has learned of the speaker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moodring.errors import DataError, UsageError
from moodring.evaluation.corpora.conditions import in_noise, under_corruptions
from moodring.evaluation.corpora.figures import (
    I64,
    answer_shares,
    arousal_figures,
    corpus_figures,
    listener_figures,
    restrict_to_present,
)
from moodring.evaluation.data.corpus import Clip, Corpus, read_corpus
from moodring.evaluation.engine import SEED, Engine, progress
from moodring.evaluation.metrics import classification_metrics
from moodring.evaluation.speech import clip_mean, clip_outputs
from moodring.features.audio.window import SpeechFrontEnd
from moodring.inference.branches import SpeechBranch
from moodring.inference.bundle import Bundle
from moodring.labels import speech_label
from moodring.types import F32, BranchOutput

SpeakerReader = Callable[[F32], list[BranchOutput]]


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """A corpus folder, its speakers to evaluate (None: all), and whether the branch keeps a baseline of each speaker.

    `clips` adds the probabilities of each clip to the figures, `noise` the figures with each noise recording of a folder mixed
    in at each of `snr_db`, and `robustness` those under each corruption.
    """

    folder: Path
    speakers: tuple[str, ...] | None = None
    baseline: bool = False
    clips: bool = False
    noise: Path | None = None
    snr_db: tuple[float, ...] = ()
    robustness: bool = False


@dataclass(frozen=True, slots=True)
class _Answers:
    """The outputs at each window of each clip."""

    clips: Sequence[Clip]
    outputs: Sequence[list[BranchOutput]]

    def means(self) -> F32:
        """Return the result of each clip, float32 [clips, C]."""
        return np.stack([clip_mean(windows) for windows in self.outputs])

    def truth(self, labels: Sequence[str]) -> I64:
        """Return the class of each clip as an index into `labels`, int64 [clips]."""
        return np.array([labels.index(clip.label) for clip in self.clips], np.int64)

    def windows(self) -> list[BranchOutput]:
        """Return the outputs at all windows of all clips."""
        return [window for windows in self.outputs for window in windows]


def evaluate_corpus(engine: Engine, options: CorpusOptions) -> dict[str, Any]:
    """Evaluate a corpus and return its figures; without labels, only the shares of the answers.

    Clips of classes that the bundle does not have are left out and counted. Raises UsageError if the bundle has no baseline,
    and DataError for damaged data.
    """
    labels = tuple(speech_label(label) for label in engine.bundle.labels)
    corpus = read_corpus(options.folder)
    present = tuple(label for label in corpus.labels if label in labels)
    clips, left_out = _select(corpus, options.speakers, labels)
    branch = engine.speech_branch()

    def run(description: str, change: Callable[[F32], F32] | None = None) -> _Answers:
        def read_speaker() -> SpeakerReader:
            return open_speaker(engine, branch, baseline=options.baseline)

        return _Answers(clips, list(_run(progress(clips, description), read_speaker, change)))

    def measure(description: str, change: Callable[[F32], F32]) -> dict[str, Any]:
        return _brief_figures(run(f"{corpus.name}, {description}", change), present, labels)

    answers = run(corpus.name)
    figures: dict[str, Any] = {"n": len(clips)}
    if present:
        figures = _labelled_figures(engine.bundle, answers, present, labels)
    figures |= {
        "corpus": corpus.name,
        "speakers": len({clip.speaker for clip in clips}),
        "baseline": options.baseline,
        "left_out": left_out,
        **_answer_figures(engine.bundle, answers, labels),
    }
    if options.noise is not None:
        figures["by_noise"] = in_noise(options.noise, options.snr_db, measure)
    if options.robustness:
        figures["by_disturbance"] = under_corruptions(measure)
    if options.clips:
        rows = zip(clips, answers.means(), strict=True)
        figures["clips"] = {
            clip.path.relative_to(corpus.folder).as_posix(): [round(float(p), 6) for p in row] for clip, row in rows
        }
    return figures


def _select(corpus: Corpus, speakers: Sequence[str] | None, labels: Sequence[str]) -> tuple[list[Clip], dict[str, int]]:
    """Return the clips of these speakers (None: all) in the order to run them, and the counts of those of unknown classes."""
    clips = (corpus if speakers is None else corpus.of_speakers(speakers)).clips
    left_out = Counter(clip.label for clip in clips if clip.label and clip.label not in labels)
    if left_out.total() == len(clips):
        raise DataError(
            f"{corpus.folder}: the classes {', '.join(sorted(left_out))} are none of the bundle's, {', '.join(labels)}; "
            "name them alike, or evaluate a bundle that was trained on them"
        )
    return in_speaker_order([clip for clip in clips if clip.label not in left_out]), dict(sorted(left_out.items()))


def in_speaker_order(clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips by speaker, those of one speaker in a random order that depends on SEED and the speaker alone."""
    ordered: list[Clip] = []
    for speaker in sorted({clip.speaker for clip in clips}):
        own = sorted((clip for clip in clips if clip.speaker == speaker), key=lambda clip: clip.path)
        order = np.random.default_rng([SEED, *speaker.encode()]).permutation(len(own))
        ordered += [own[place] for place in order]
    return ordered


def open_speaker(engine: Engine, branch: SpeechBranch, *, baseline: bool) -> SpeakerReader:
    """Return a function that returns the outputs at each hop of a clip, for the clips of one speaker in turn.

    The front end is kept from clip to clip. Without a baseline, it has no memory of the clips before. Raises UsageError if the
    bundle has no baseline.
    """
    spec, info = engine.bundle.spec.speech, engine.bundle.models["speech"].baseline
    if baseline and info is None:
        raise UsageError(f"bundle {engine.bundle.path}: this bundle has no baseline; evaluate it without --baseline")
    front_end = SpeechFrontEnd(spec, baseline=info if baseline else None)
    return lambda samples: clip_outputs(branch, samples, spec, front_end)


def _run(
    clips: Iterable[Clip], open_reader: Callable[[], SpeakerReader], change: Callable[[F32], F32] | None
) -> Iterator[list[BranchOutput]]:
    """Yield the outputs at each hop of each clip, whose sound is changed first; a new reader is opened for each speaker."""
    speaker, read = None, None
    for clip in clips:
        if read is None or clip.speaker != speaker:
            speaker, read = clip.speaker, open_reader()
        samples = clip.read()
        try:
            yield read(samples if change is None else change(samples))
        except DataError as error:
            raise clip.error(f"{clip.path}: {error}") from error


def _labelled_figures(bundle: Bundle, answers: _Answers, present: Sequence[str], labels: tuple[str, ...]) -> dict[str, Any]:
    means, truth = answers.means(), answers.truth(labels)
    speakers = [clip.speaker for clip in answers.clips]
    restricted = restrict_to_present(means, present, labels)
    sure = sure_threshold(bundle)
    return corpus_figures(means, truth, speakers, labels, sure) | {
        "present": {"classes": list(present), **corpus_figures(restricted, truth, speakers, labels, sure)},
        "arousal": arousal_figures(restricted, truth, labels),
        "listeners": listener_figures(restricted, truth, [clip.votes for clip in answers.clips], labels),
    }


def _brief_figures(answers: _Answers, present: Sequence[str], labels: tuple[str, ...]) -> dict[str, Any]:
    """Return the main figures of `present`, accuracy also as `voice`; without labels, the shares of the answers."""
    if not present:
        return answer_shares(answers.means(), labels)
    restricted = restrict_to_present(answers.means(), present, labels)
    figures = classification_metrics(restricted, answers.truth(labels), labels)
    brief = {name: figures[name] for name in ("n", "accuracy", "balanced_accuracy", "ece")}
    return brief | {"voice": figures["accuracy"]}


def sure_threshold(bundle: Bundle) -> float | None:
    """Return the confidence from which the bundle publishes that speech outputs are sure; None if it has no such threshold."""
    info = bundle.models["speech"]
    return None if info.confident is None else float(info.confident[info.published_head]["threshold"])


def _answer_figures(bundle: Bundle, answers: _Answers, labels: tuple[str, ...]) -> dict[str, Any]:
    """Return the share of windows that the branch accepts as speech, and the shares of the answers.

    `windows` counts the accepted windows, as the daemon does, `sure` those of them above the published confidence threshold,
    `clips` the results of all clips.
    """
    windows, threshold, sure = answers.windows(), bundle.models["speech"].usable_threshold, sure_threshold(bundle)
    accepted = np.array([window.probabilities for window in windows if window.usable >= threshold]).reshape(-1, len(labels))
    confident = None if sure is None else answer_shares(accepted[accepted.max(axis=1, initial=0.0) >= sure], labels)
    return {
        "usable": {"speech": {"windows": len(windows), "usable": len(accepted) / len(windows)}},
        "answers": {
            "windows": answer_shares(accepted, labels),
            "sure": confident,
            "clips": answer_shares(answers.means(), labels),
        },
    }
