"""`moodring evaluate speech --corpus`: figures of corpora with few classes, any classes or none, and of their listeners."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moodring.cli import main
from moodring.evaluation.corpora.evaluate import in_speaker_order
from moodring.evaluation.corpora.figures import (
    answer_shares,
    arousal_figures,
    corpus_figures,
    listener_figures,
    restrict_to_present,
)
from moodring.evaluation.data.corpus import Clip
from moodring.evaluation.metrics import expected_calibration_error
from moodring.evaluation.sound_corruption import SOUND_CORRUPTIONS
from moodring.evaluation.speech import clip_windows
from moodring.features.audio.window import SpeechFrontEnd
from moodring.features.spec import SpeechSpec
from moodring.labels import INDEX, LABELS
from tests.support.recordings import write_recording
from tests.support.signals import noise, voice
from tests.support.tiny_bundle import read_document, write_document

METRICS = ("n", "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "ece", "per_class", "confusion")
CLASSES = ("angry", "happy", "neutral")


def probabilities(*rows: dict[str, float]) -> np.ndarray:
    return np.array([[row.get(label, 0.0) for label in LABELS] for row in rows])


def indices(*labels: str) -> np.ndarray:
    return np.array([INDEX[label] for label in labels])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Return a corpus of three classes and two speakers, two recordings of each; one also of boredom."""
    folder = tmp_path_factory.mktemp("corpora") / "mine"
    folder.mkdir()
    rows = ["path,speaker,label,votes"]
    for number, (speaker, label) in enumerate((s, c) for s in ("ann", "bob") for c in (*CLASSES, *CLASSES)):
        sound = voice(1.6, level=0.05 * (number + 1)) + noise(1.6, 0.005, number)
        write_recording(folder / f"{number}.flac", sound=sound)
        rows.append(f"{number}.flac,{speaker},{label},{label}:3 sad:1")
    write_recording(folder / "bored.wav", sound=voice(1.6))
    (folder / "manifest.csv").write_text("\n".join((*rows, "bored.wav,bob,boredom,")) + "\n")
    return folder


@pytest.fixture
def evaluate(tiny_bundle: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that evaluates a corpus and returns the figures."""

    def run(folder: Path, *arguments: str, bundle: Path = tiny_bundle) -> dict[str, Any]:
        out = tmp_path / "figures.json"
        command = ["evaluate", "speech", "--corpus", str(folder), "--bundle", str(bundle), "--json", str(out), *arguments]
        assert main(command) == 0
        return json.loads(out.read_text())

    return run


def with_speech(bundle: Path, folder: Path, **changes: Any) -> Path:
    """Return a copy of a bundle with other entries of its speech network; `labels` are those of the bundle."""
    copy = Path(shutil.copytree(bundle, folder))
    document = read_document(copy)
    document["models"] = {"speech": document["models"]["speech"]}
    if "labels" in changes:
        document["labels"] = changes.pop("labels")
    document["models"]["speech"] |= changes
    write_document(copy, document)
    return copy


def test_answers_are_restricted_to_the_classes_of_the_corpus():
    rows = probabilities({"angry": 0.2, "sad": 0.3, "neutral": 0.1, "calm": 0.4}, {"disgust": 1.0})
    restricted = restrict_to_present(rows, ("angry", "neutral"), LABELS)
    np.testing.assert_allclose(restricted[0], probabilities({"angry": 0.2 / 0.7, "neutral": 0.5 / 0.7})[0])
    np.testing.assert_allclose(restricted[1], probabilities({"angry": 0.5, "neutral": 0.5})[0])
    with_calm = restrict_to_present(rows, ("neutral", "calm"), LABELS)
    np.testing.assert_allclose(with_calm[0], probabilities({"neutral": 0.2, "calm": 0.8})[0])
    without_neutral = restrict_to_present(rows, ("angry", "sad"), LABELS)
    np.testing.assert_allclose(without_neutral[0], probabilities({"angry": 0.4, "sad": 0.6})[0])


def test_corpus_figures_cover_speakers_and_sure_answers():
    rows = probabilities({"angry": 0.9, "sad": 0.1}, {"angry": 0.6, "sad": 0.4}, {"sad": 0.7, "angry": 0.3})
    figures = corpus_figures(rows, indices("angry", "sad", "sad"), ["b", "a", "b"], LABELS, 0.65)
    assert figures["by_speaker"] == {
        "a": {"n": 1, "accuracy": 0.0, "balanced_accuracy": 0.0},
        "b": {"n": 2, "accuracy": 1.0, "balanced_accuracy": 1.0},
    }
    assert figures["sure"] == {"threshold": 0.65, "coverage": pytest.approx(2 / 3), "accuracy": 1.0}
    figures = corpus_figures(rows, indices("angry", "sad", "sad"), ["b", "a", "b"], LABELS, 0.95)
    assert figures["sure"] == {"threshold": 0.95, "coverage": 0.0, "accuracy": None}
    assert corpus_figures(rows, indices("angry", "sad", "sad"), ["b", "a", "b"], LABELS, None)["sure"] is None


def test_arousal_compares_the_sums_of_both_sides():
    rows = probabilities(
        {"angry": 0.3, "fear": 0.3, "sad": 0.4}, {"sad": 0.6, "happy": 0.4}, {"calm": 0.6, "happy": 0.4}, {"disgust": 1.0}
    )
    figures = arousal_figures(rows, indices("happy", "neutral", "surprise", "disgust"), LABELS)
    assert figures is not None
    assert (figures["n"], figures["confusion"], figures["balanced_accuracy"]) == (3, [[1, 1], [0, 1]], 0.75)
    assert arousal_figures(rows[:2], indices("sad", "neutral"), LABELS) is None


def test_answers_are_counted_by_class():
    rows = probabilities({"calm": 1.0}, {"neutral": 1.0}, {"disgust": 1.0}, {"neutral": 1.0})
    shares = answer_shares(rows, LABELS)
    assert (shares["n"], shares["not_neutral_or_calm"], shares["by_class"]["neutral"]) == (4, 0.25, 0.5)
    assert answer_shares(np.zeros((0, 8)), LABELS)["not_neutral_or_calm"] is None


def test_listeners_are_compared_with_answers_and_with_the_intended_class():
    rows = probabilities({"angry": 1.0}, {"sad": 1.0}, {"happy": 1.0}, {"sad": 1.0})
    votes = [{"angry": 0.7, "sad": 0.3}, {"happy": 0.6, "sad": 0.4}, {"sad": 0.5, "happy": 0.5}, None]
    assert listener_figures(rows, indices("angry", "sad", "sad", "sad"), votes, LABELS) == {
        "n": 3, "decided": 2, "agreement": 0.5, "balanced_agreement": 0.5, "named": 0.5,
        "votes_named": pytest.approx((0.7 + 0.4 + 0.5) / 3),
    }  # fmt: skip
    assert listener_figures(rows, indices("angry", "sad", "sad", "sad"), [None] * 4, LABELS) is None
    undecided = listener_figures(rows[:1], indices("sad"), [{"sad": 0.5, "happy": 0.5}], LABELS)
    assert undecided is not None
    assert (undecided["decided"], undecided["agreement"], undecided["named"]) == (0, None, None)


def test_corpus_reports_all_and_present_classes(evaluate, corpus: Path):
    figures = evaluate(corpus, "--clips")
    assert (figures["what"], figures["corpus"], figures["speakers"]) == ("speech", "mine", 2)
    assert (figures["n"], figures["baseline"], figures["left_out"]) == (12, False, {"boredom": 1})
    for part in (figures, figures["present"]):
        assert part.keys() >= set(METRICS)
        assert part["n"] == 12
        assert {name: brief["n"] for name, brief in part["by_speaker"].items()} == {"ann": 6, "bob": 6}
        confusion = np.array(part["confusion"])
        assert confusion.sum(axis=1).tolist() == [4, 0, 0, 4, 0, 0, 4, 0]
    assert figures["present"]["classes"] == list(CLASSES)
    predicted = np.array(figures["present"]["confusion"]).sum(axis=0)
    assert predicted[[INDEX[label] for label in LABELS if label not in CLASSES]].sum() == 0
    assert figures["usable"]["speech"] == {"windows": figures["answers"]["windows"]["n"], "usable": 1.0}
    assert sum(figures["answers"]["windows"]["by_class"].values()) == pytest.approx(1.0)
    assert figures["answers"]["clips"]["n"] == 12
    assert (figures["sure"], figures["answers"]["sure"]) == (None, None)
    assert (figures["listeners"]["n"], figures["listeners"]["named"]) == (12, 1.0)
    assert figures["listeners"]["agreement"] == figures["present"]["accuracy"]
    rows = np.array([figures["clips"][f"{number}.flac"] for number in range(12)])
    truth = indices(*(4 * CLASSES))
    restricted = restrict_to_present(rows, CLASSES, LABELS)
    assert figures["present"]["ece"] == pytest.approx(expected_calibration_error(restricted, truth), abs=1e-4)
    assert figures["present"]["accuracy"] == pytest.approx((restricted.argmax(axis=1) == truth).mean())


def test_speakers_restrict_a_corpus(evaluate, corpus: Path):
    assert evaluate(corpus, "--speakers", "ann")["left_out"] == {}
    figures = evaluate(corpus, "--speakers", "bob")
    assert set(figures["present"]["by_speaker"]) == {"bob"}
    assert (figures["n"], figures["left_out"]) == (6, {"boredom": 1})


def test_corpus_without_labels_reports_the_answers(evaluate, corpus: Path, tmp_path: Path):
    folder = Path(shutil.copytree(corpus, tmp_path / "read"))
    (folder / "manifest.csv").write_text("path,speaker,label\n0.flac,ann,\n1.flac,bob,\n")
    figures = evaluate(folder)
    assert figures["n"] == 2
    assert "accuracy" not in figures
    assert "present" not in figures
    shares = figures["answers"]["clips"]
    assert shares["n"] == 2
    quiet = shares["by_class"]["neutral"] + shares["by_class"]["calm"]
    assert shares["not_neutral_or_calm"] == pytest.approx(1.0 - quiet)


def test_corpus_of_one_class_reports_the_answers(evaluate, corpus: Path, tmp_path: Path):
    folder = Path(shutil.copytree(corpus, tmp_path / "grid"))
    (folder / "manifest.csv").write_text("path,speaker,label\n0.flac,ann,neutral\n1.flac,bob,neutral\n")
    figures = evaluate(folder)
    assert figures["present"]["accuracy"] == 1.0
    assert figures["arousal"] is None
    assert figures["accuracy"] <= 1.0 - figures["answers"]["clips"]["not_neutral_or_calm"] + 1e-9


def test_corpus_under_noise_and_corruption(evaluate, corpus: Path, tmp_path: Path):
    (tmp_path / "noise").mkdir()
    write_recording(tmp_path / "noise" / "tap.ogg", sound=noise(0.7, 0.01), audio_codec="libopus", rate_hz=16_000)
    arguments = ["--noise", str(tmp_path / "noise"), "--snr", "100,0", "--robustness", "--speakers", "ann"]
    figures = evaluate(corpus, *arguments)
    assert list(figures["by_noise"]["tap"]) == ["100", "0"]
    assert figures["by_noise"]["tap"]["100"]["n"] == 6
    assert figures["by_noise"]["tap"]["100"]["accuracy"] == figures["present"]["accuracy"]
    assert set(figures["by_disturbance"]) == set(SOUND_CORRUPTIONS)
    for name, kind in SOUND_CORRUPTIONS.items():
        by_strength = figures["by_disturbance"][name]["by_strength"]
        assert list(by_strength) == [f"{strength:g}" for strength in kind.strengths]
        for part in by_strength.values():
            assert part.keys() == {"n", "accuracy", "balanced_accuracy", "ece", "voice"}
    assert evaluate(corpus, *arguments) == figures


def test_published_layouts_are_corpora(evaluate, corpus: Path, tmp_path: Path):
    for emotion, actor in (("03", 1), ("05", 2)):
        path = tmp_path / "ravdess" / f"Actor_{actor:02d}" / f"03-01-{emotion}-01-01-01-{actor:02d}.flac"
        path.parent.mkdir(parents=True)
        shutil.copy(corpus / "0.flac", path)
    figures = evaluate(tmp_path / "ravdess")
    assert set(figures["by_speaker"]) == {"1", "2"}
    assert figures["present"]["classes"] == ["angry", "happy"]


def test_bundle_with_labels_of_its_own_is_evaluated_on_them(evaluate, corpus: Path, tiny_bundle: Path, tmp_path: Path):
    labels = ["anger", "boredom", "c", "d", "e", "f", "g", "h"]
    figures = evaluate(corpus, bundle=with_speech(tiny_bundle, tmp_path / "own", labels=labels))
    assert (figures["n"], figures["left_out"]) == (5, {"happy": 4, "neutral": 4})
    assert figures["present"]["classes"] == ["angry", "boredom"]
    assert list(figures["per_class"])[:2] == ["angry", "boredom"]


def test_sure_answers_use_the_threshold_of_the_bundle(evaluate, corpus: Path, tiny_bundle: Path, tmp_path: Path):
    confident = {"logits": {"threshold": 0.2, "right": 0.9, "coverage": 0.8}}
    figures = evaluate(corpus, "--clips", bundle=with_speech(tiny_bundle, tmp_path / "sure", confident=confident))
    highest = np.array(list(figures["clips"].values())).max(axis=1)
    assert figures["sure"]["threshold"] == 0.2
    assert figures["sure"]["coverage"] == pytest.approx((highest >= 0.2).mean())
    assert figures["present"]["sure"]["coverage"] >= figures["sure"]["coverage"]
    assert figures["answers"]["sure"]["n"] <= figures["answers"]["windows"]["n"]


def test_order_of_a_speaker_depends_on_the_seed_and_the_speaker_alone():
    clips = [Clip(Path(f"{speaker}{n}.wav"), speaker, "sad", INDEX["sad"]) for n in range(9) for speaker in ("b", "a")]
    ordered = in_speaker_order(clips)
    assert [clip.speaker for clip in ordered] == ["a"] * 9 + ["b"] * 9
    assert set(ordered) == set(clips)
    assert ordered[9:] == in_speaker_order([clip for clip in reversed(clips) if clip.speaker == "b"])
    numbers = [[int(clip.path.stem[1:]) for clip in part] for part in (ordered[:9], ordered[9:])]
    assert sorted(numbers[0]) == sorted(numbers[1])
    assert numbers[0] != numbers[1] != sorted(numbers[1])


def test_front_end_that_is_kept_gives_the_windows_of_a_new_one():
    spec = SpeechSpec()
    kept = SpeechFrontEnd(spec)
    clip_windows(voice(2.5), spec, kept)
    for ours, new in zip(clip_windows(voice(3.5), spec, kept), clip_windows(voice(3.5), spec), strict=True):
        np.testing.assert_array_equal(ours.features, new.features)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--corpus", "MINE", "--baseline"], 2, "this bundle has no baseline"),
        (["--corpus", "MINE", "--speakers", "ann,eve"], 1, "holds no clips of speaker eve; it has ann, bob"),
        (["--corpus", "MINE", "--speakers", "ann,"], 2, "must be names separated by commas"),
        (["--corpus", "MINE", "--actors", "1"], 2, "--corpus has --speakers"),
        (["--corpus", "TMP"], 1, "holds neither manifest.csv"),
        (["--corpus", "TMP/none"], 1, ": no such folder"),
        (["--corpus", "OWN"], 1, "the classes awe are none of the bundle's, angry,"),
        (["--corpus", "SHORT"], 1, "0.flac: a clip of 100 samples is too short for one analysis window (manifest.csv row 2)"),
        (["--corpus", "MINE", "--ravdess", "TMP"], 2, "not allowed with argument"),
        (["--tess", "TMP", "--baseline"], 2, "--speakers and --baseline need --corpus"),
        (["--ravdess", "TMP", "--speakers", "a"], 2, "--speakers and --baseline need --corpus"),
    ],
)
def test_errors_name_the_cause(
    capsys, corpus: Path, tiny_bundle: Path, tmp_path: Path, arguments: list[str], code: int, message: str
):
    for name, label in (("own", "awe"), ("short", "sad")):
        folder = Path(shutil.copytree(corpus, tmp_path / name))
        (folder / "manifest.csv").write_text(f"path,speaker,label\n1.flac,ann,{label}\n0.flac,ann,{label}\n")
    write_recording(tmp_path / "short" / "0.flac", sound=voice(1.0)[:100])
    paths = {"MINE": corpus, "OWN": tmp_path / "own", "SHORT": tmp_path / "short"}
    arguments = [str(paths.get(each, each)).replace("TMP", str(tmp_path)) for each in arguments]
    out = tmp_path / "figures.json"
    try:
        found = main(["evaluate", "speech", *arguments, "--bundle", str(tiny_bundle), "--json", str(out)])
    except SystemExit as exit_:
        found = exit_.code
    assert (found, message in capsys.readouterr().err) == (code, True)
    assert not out.exists()


@pytest.mark.data
def test_real_readers_are_a_corpus(data_path, tmp_path: Path):
    out = tmp_path / "figures.json"
    command = ["evaluate", "speech", "--corpus", str(data_path("read_speech")), "--speakers", "1688,1998,2033"]
    assert main([*command, "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert (figures["n"], figures["corpus"], figures["speakers"]) == (3, "read_speech", 3)
    assert figures["answers"]["windows"]["n"] > 30
