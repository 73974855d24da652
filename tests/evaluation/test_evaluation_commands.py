"""`moodring evaluate`: every subcommand on small data sets in the published layouts, without torch."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.cli import main
from moodring.evaluation.data.readers import FERPLUS_COLUMNS
from moodring.evaluation.face import ferplus_majority
from moodring.evaluation.pairs import draw_others, draw_pairs
from moodring.evaluation.sound_corruption import SOUND_CORRUPTIONS
from moodring.evaluation.speech import clip_mean, mix_noise
from moodring.labels import CALM, INDEX, LABELS, NEUTRAL
from moodring.types import BranchOutput
from tests.support.recordings import write_recording
from tests.support.signals import empty_frame, face_frame, noise, voice
from tests.support.tiny_bundle import read_document, write_document

REQUIRED = {
    "n", "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "ece", "per_class", "confusion",
    "bundle", "precision", "backend",
}  # fmt: skip
FRACTIONS = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "ece")
ROOT = Path(__file__).resolve().parents[2]


def check_figures(figures: dict[str, Any], n: int) -> None:
    assert figures["n"] == n
    for name in FRACTIONS:
        assert 0.0 <= figures[name] <= 1.0, name
    confusion = np.array(figures["confusion"])
    assert confusion.shape == (8, 8)
    assert confusion.sum() == n
    assert figures["accuracy"] == pytest.approx(np.trace(confusion) / n)
    assert list(figures["per_class"]) == list(LABELS)
    assert [entry["n"] for entry in figures["per_class"].values()] == confusion.sum(axis=1).tolist()


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [cv2.resize(face_frame(i), (48, 48)) // 2 + rng.integers(0, 128, (48, 48), np.uint8) for i in range(20)]


@pytest.fixture(scope="module")
def fer2013(tmp_path_factory, images: list[np.ndarray]) -> Path:
    """Twenty images: ten of Training, and ten of PublicTest with one exact copy of a Training image."""
    path = tmp_path_factory.mktemp("fer") / "fer2013.csv"
    rows = [(i % 7, images[i], "Training") for i in range(10)]
    rows += [(i % 7, images[i], "PublicTest") for i in range(10, 19)] + [(3, images[3], "PublicTest")]
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("emotion", "pixels", "Usage"))
        writer.writerows((label, " ".join(map(str, face.ravel())), usage) for label, face, usage in rows)
    with path.with_name("fer2013new.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("Usage", "Image name", *FERPLUS_COLUMNS))
        for i, (_, _, usage) in enumerate(rows):
            votes = [0] * 10
            votes[i % 10] = 10  # the columns neutral .. fear, contempt, unknown, not a face
            writer.writerow((usage, f"fer{i:07d}.png", *votes))
    return path


@pytest.fixture(scope="module")
def ravdess(tmp_path_factory) -> Path:
    """All eight emotions of two actors, 1.6 s each."""
    folder = tmp_path_factory.mktemp("ravdess")
    for actor in (1, 2):
        (folder / f"Actor_{actor:02d}").mkdir()
        for emotion in range(1, 9):
            path = folder / f"Actor_{actor:02d}" / f"03-01-{emotion:02d}-01-01-01-{actor:02d}.wav"
            write_recording(path, sound=voice(1.6, level=0.05 * emotion) + noise(1.6, 0.005, emotion))
    return folder


@pytest.fixture
def evaluate(tiny_bundle: Path, tmp_path: Path, capsys) -> Callable[..., dict[str, Any]]:
    """Return a function that runs `moodring evaluate` and returns the figures that it wrote."""

    def run(*arguments: object) -> dict[str, Any]:
        out = tmp_path / "new" / "figures.json"
        out.unlink(missing_ok=True)
        assert main(["evaluate", *map(str, arguments), "--bundle", str(tiny_bundle), "--json", str(out)]) == 0
        assert capsys.readouterr().out == ""
        figures = json.loads(out.read_text())
        assert figures.keys() >= REQUIRED
        assert (figures["what"], figures["precision"], figures["backend"]) == (arguments[0], "fp32", "onnx")
        assert figures["bundle"] == json.loads((tiny_bundle / "bundle.json").read_text())["id"]
        return figures

    return run


def run_and_read_error(capsys, *arguments: object) -> tuple[int, str]:
    """Run `moodring` and return the exit code and its only error line."""
    code = main([str(argument) for argument in arguments])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("moodring: ")]
    assert len(lines) == 1
    return code, lines[0]


def test_face_reports_official_figures_and_training_duplicates(evaluate, fer2013: Path):
    figures = evaluate("face", "--fer2013", fer2013)
    check_figures(figures, 10)
    assert figures["split"] == "PublicTest"
    assert figures["without_training_copies"]["copies"] == 1
    check_figures(figures["without_training_copies"], 9)
    assert set(figures["by_label_set"]) == {"official"}
    assert np.array(figures["confusion"])[:, CALM].sum() == 0


def test_face_reports_both_label_sets(evaluate, fer2013: Path):
    figures = evaluate("face", "--fer2013", fer2013, "--ferplus", fer2013.with_name("fer2013new.csv"))
    check_figures(figures["by_label_set"]["official"], 10)
    check_figures(figures["by_label_set"]["ferplus"], 7)
    assert figures["by_label_set"]["ferplus"]["left_out"] == 3
    assert figures["accuracy"] == figures["by_label_set"]["official"]["accuracy"]


def test_face_reports_no_duplicates_for_the_training_split(evaluate, fer2013: Path):
    figures = evaluate("face", "--fer2013", fer2013, "--split", "Training")
    check_figures(figures, 10)
    assert "without_training_copies" not in figures


def test_face_counts_photographs_without_a_detected_face(evaluate, tmp_path: Path):
    for folder in ("happy", "anger", "contempt"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "photos/happy/one.png"), face_frame(0))
    cv2.imwrite(str(tmp_path / "photos/anger/two.jpg"), face_frame(5))
    cv2.imwrite(str(tmp_path / "photos/anger/empty.png"), empty_frame(0))
    cv2.imwrite(str(tmp_path / "photos/contempt/three.png"), face_frame(9))
    figures = evaluate("face", "--images", tmp_path / "photos")
    check_figures(figures, 3)
    assert figures["detection_rate"] == pytest.approx(2 / 3)
    assert figures["skipped_folders"] == ["contempt"]
    check_figures(figures["detected"], 2)


def test_speech_figures_count_clips(evaluate, ravdess: Path):
    figures = evaluate("speech", "--ravdess", ravdess)
    check_figures(figures, 16)
    assert figures["actors"] == [1, 2]
    assert [entry["n"] for entry in figures["per_class"].values()] == [2] * 8


def test_speech_evaluates_the_given_actors(evaluate, ravdess: Path):
    figures = evaluate("speech", "--ravdess", ravdess, "--actors", "2")
    check_figures(figures, 8)
    assert figures["actors"] == [2]


def test_speech_reports_usable_windows_and_clip_probabilities(evaluate, ravdess: Path, tmp_path: Path):
    write_recording(tmp_path / "tap.wav", sound=noise(2.6, 0.01))
    figures = evaluate("speech", "--ravdess", ravdess, "--actors", "1", "--noise", tmp_path, "--snr", "10", "--clips")
    assert figures["usable"]["speech"]["usable"] == 1.0  # the tiny bundle accepts everything
    assert figures["usable"]["tap"] == {"windows": 4, "usable": 1.0}  # at 1, 1.5, 2 and 2.5 s
    assert figures["usable"]["silence"]["windows"] == 119
    assert set(figures["clips"]) == {f"03-01-{emotion:02d}-01-01-01-01" for emotion in range(1, 9)}
    for row in figures["clips"].values():
        assert sum(row) == pytest.approx(1.0, abs=1e-4)


def test_speech_only_bundle_is_evaluated_as_clips_and_as_a_stream(capsys, tiny_bundle: Path, ravdess: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "speech_only"))
    document = read_document(folder)
    document["models"] = {"speech": document["models"]["speech"]}
    write_document(folder, document)
    for what in ("speech", "stream"):
        out = tmp_path / f"{what}.json"
        arguments = ["--ravdess", ravdess, "--actors", "1", "--bundle", folder, "--json", out]
        assert main(["evaluate", what, *map(str, arguments)]) == 0
        check_figures(json.loads(out.read_text()), 8)


def test_speech_reports_noise_by_recording_and_snr(evaluate, ravdess: Path, tmp_path: Path):
    (tmp_path / "noise").mkdir()
    write_recording(tmp_path / "noise" / "tap.wav", sound=noise(0.7, 0.01))
    figures = evaluate("speech", "--ravdess", ravdess, "--actors", "1", "--noise", tmp_path / "noise", "--snr", "20,0,-5.5")
    assert set(figures["by_noise"]) == {"tap"}
    assert list(figures["by_noise"]["tap"]) == ["20", "0", "-5.5"]
    for part in figures["by_noise"]["tap"].values():
        check_figures(part, 8)


def test_speech_robustness_covers_every_corruption(evaluate, ravdess: Path):
    figures = evaluate("speech", "--ravdess", ravdess, "--actors", "1", "--robustness")
    assert set(figures["by_disturbance"]) == set(SOUND_CORRUPTIONS)
    for name, kind in SOUND_CORRUPTIONS.items():
        by_strength = figures["by_disturbance"][name]["by_strength"]
        assert list(by_strength) == [f"{strength:g}" for strength in kind.strengths]
        assert all(0.0 <= accuracies["voice"] <= 1.0 for accuracies in by_strength.values())


def test_tess_reports_accuracy_by_speaker(evaluate, tmp_path: Path):
    for speaker in ("OAF", "YAF"):
        for emotion in ("angry", "ps", "neutral"):
            path = tmp_path / speaker / f"{speaker}_back_{emotion}.wav"
            path.parent.mkdir(exist_ok=True)
            write_recording(path, sound=voice(1.6))
    figures = evaluate("speech", "--tess", tmp_path)
    assert figures["n"] == 6
    assert set(figures["by_speaker"]) == {"OAF", "YAF"}
    assert figures["per_class"]["surprise"]["n"] == 2


@pytest.mark.parametrize("name", SOUND_CORRUPTIONS)
def test_sound_corruption_changes_a_copy_and_is_repeatable(name: str):
    sound = voice(2.5)
    original = sound.copy()
    for strength in SOUND_CORRUPTIONS[name].strengths:
        corrupted = SOUND_CORRUPTIONS[name].apply(sound, strength, np.random.default_rng(1))
        again = SOUND_CORRUPTIONS[name].apply(sound, strength, np.random.default_rng(1))
        np.testing.assert_array_equal(corrupted, again)
        assert corrupted.dtype == np.float32
        assert np.isfinite(corrupted).all()
        assert corrupted.size == (min(sound.size, round(16_000 * strength)) if name == "less to hear" else sound.size)
    np.testing.assert_array_equal(sound, original)


def test_crop_loudest_keeps_the_loudest_section():
    sound = np.concatenate([np.zeros(8_000, np.float32), voice(1.0), np.zeros(24_000, np.float32)])
    cropped = SOUND_CORRUPTIONS["less to hear"].apply(sound, 1.0, np.random.default_rng(0))
    assert np.sum(cropped**2) == pytest.approx(np.sum(sound**2), rel=1e-6)


def test_clip_mean_uses_the_windows_with_the_most_voice():
    def output(quality: float, first: float) -> BranchOutput:
        probabilities = np.array([first, 1.0 - first, 0, 0, 0, 0, 0, 0], np.float32)
        return BranchOutput("speech", 0, probabilities, np.zeros(0, np.float32), 1.0, quality)

    mean = clip_mean([output(0.3, 1.0), output(0.6, 0.2), output(0.6, 0.4), output(0.5, 1.0)])
    np.testing.assert_allclose(mean[:2], [0.3, 0.7], rtol=1e-6)


def test_mix_noise_reaches_the_snr_and_is_repeatable():
    sounds, noise_sound = [voice(1.0), voice(1.5, level=0.05)], noise(0.4, 0.2)
    for snr_db in (20.0, 0.0):
        noisy = mix_noise(sounds, noise_sound, snr_db)
        for clean, mixed in zip(sounds, noisy, strict=True):
            assert mixed.dtype == np.float32
            measured = 10 * np.log10(np.mean(clean**2) / np.mean((mixed - clean) ** 2))
            assert measured == pytest.approx(snr_db, abs=0.5)
        for first, second in zip(noisy, mix_noise(sounds, noise_sound, snr_db), strict=True):
            np.testing.assert_array_equal(first, second)


def test_stream_counts_clips_without_a_label(evaluate, ravdess: Path):
    figures = evaluate("stream", "--ravdess", ravdess, "--actors", "1")
    check_figures(figures, 8)
    assert figures["no_answer"] == 0
    assert figures["accuracy_of_all"] == pytest.approx(figures["accuracy"])


@pytest.mark.parametrize("method", ["feature", "weighted", "voting"])
def test_fusion_reports_each_branch_on_the_same_pairs(evaluate, fer2013: Path, ravdess: Path, method: str):
    arguments = ["fusion", "--fer2013", fer2013, "--split", "Training", "--ravdess", ravdess, "--pairs", "40"]
    figures = evaluate(*arguments, "--method", method)
    check_figures(figures, 40)
    assert figures["pairing"] == "paired by class, different people"
    assert (figures["method"], figures["pairs"], figures["seed"]) == (method, 40, 0)
    for part in ("merged_calm", "face_alone", "speech_alone", "speech_missing", "face_missing"):
        check_figures(figures[part], 40)
    assert np.array(figures["merged_calm"]["confusion"])[CALM].sum() == 0
    assert figures["easier"] == "independent errors make this easier than life"
    assert figures["face_missing"]["confusion"] == figures["speech_alone"]["confusion"]
    assert figures["speech_missing"]["confusion"] == figures["face_alone"]["confusion"]
    for side in ("face", "speech"):
        assert set(figures["wrong"][side]["fused_by_freshness"]) == {"1", "0.5", "0.2"}
        assert 0 <= figures["noise"][side]["refused"] <= 1
    assert (figures["confident"] is None) == (method != "feature")
    assert sum(part["n"] for part in figures["reliability"]) == 40
    curve = figures["risk_coverage"]
    assert curve[-1]["accuracy"] == pytest.approx(figures["accuracy"])
    assert [point["coverage"] for point in curve] == sorted(point["coverage"] for point in curve)


def test_fusion_reports_both_label_sets(evaluate, fer2013: Path, ravdess: Path):
    votes = fer2013.with_name("fer2013new.csv")
    arguments = ["fusion", "--fer2013", fer2013, "--ferplus", votes, "--split", "Training", "--ravdess", ravdess]
    figures = evaluate(*arguments, "--pairs", "20")
    assert set(figures["by_label_set"]) == {"official", "ferplus"}
    assert figures["by_label_set"]["official"]["confusion"] == figures["confusion"]
    check_figures(figures["by_label_set"]["ferplus"], 20)


@given(st.integers(0, 2**32 - 1))
def test_mismatched_rows_are_of_another_class(seed: int):
    labels, wanted = np.array([0, 0, 3, 5, 6, 7]), np.array([0, 3, 6, 7, 5, 1])
    others = labels[draw_others(labels, wanted, seed)]
    merged_others, merged_wanted = np.where(others == CALM, 6, others), np.where(wanted == CALM, 6, wanted)
    assert (merged_others != merged_wanted).all()


def test_fusion_figures_depend_only_on_the_seed(evaluate, fer2013: Path, ravdess: Path):
    arguments = ["fusion", "--fer2013", fer2013, "--split", "Training", "--ravdess", ravdess, "--pairs", "30"]
    first, again, other = evaluate(*arguments), evaluate(*arguments), evaluate(*arguments, "--seed", "1")
    assert first == again
    assert first["per_class"] != other["per_class"]


def test_pairs_share_a_class_with_calm_as_neutral():
    faces, clips = np.arange(7).repeat(3), np.arange(8)
    images, chosen = draw_pairs(faces, clips, 500, seed=3)
    wanted = np.where(clips[chosen] == CALM, NEUTRAL, clips[chosen])
    np.testing.assert_array_equal(faces[images], wanted)
    assert set(clips[chosen]) == set(range(8))


def test_ferplus_majority_has_no_label_for_ties():
    votes = np.zeros((4, 10), np.uint8)
    votes[0, FERPLUS_COLUMNS.index("happiness")] = 6
    votes[0, FERPLUS_COLUMNS.index("neutral")] = 4
    votes[1, :2] = 5
    votes[2, FERPLUS_COLUMNS.index("contempt")] = 10
    assert ferplus_majority(votes).tolist() == [INDEX["happy"], -1, -1, -1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["speech", "--ravdess", "RAVDESS", "--actors", "1,7"], 1, "holds no clips of actor 7"),
        (["speech", "--ravdess", "TMP"], 1, "holds no RAVDESS recordings"),
        (["speech", "--tess", "TMP"], 1, "holds no TESS recordings"),
        (["speech", "--tess", "TMP", "--robustness"], 2, "--robustness, --noise and --actors need --ravdess"),
        (["speech", "--ravdess", "TMP/missing"], 1, ": no such folder"),
        (["stream", "--ravdess", "RAVDESS", "--actors", "9"], 1, "holds no clips of actor 9"),
        (["speech", "--ravdess", "RAVDESS", "--noise", "TMP"], 1, "holds no noise recordings"),
        (["face", "--fer2013", "TMP/fer2013.csv"], 1, ": no such file"),
        (["face", "--fer2013", "FER", "--split", "PrivateTest"], 1, "has no rows of PrivateTest"),
        (["face", "--images", "TMP"], 1, "holds no images in folders named"),
        (["fusion", "--fer2013", "FER", "--split", "PrivateTest", "--ravdess", "RAVDESS"], 1, "has no rows of PrivateTest"),
        (["face", "--fer2013", "FER", "--backend", "openvino"], 1, "pip install 'moodring[openvino]'"),
    ],
)
def test_evaluation_errors_name_the_cause(
    capsys, monkeypatch, tiny_bundle: Path, tmp_path: Path, fer2013: Path, ravdess: Path,
    arguments: list[str], code: int, message: str,
):  # fmt: skip
    monkeypatch.setitem(sys.modules, "openvino", None)
    paths = {"RAVDESS": ravdess, "FER": fer2013}
    arguments = [str(paths.get(a, a)).replace("TMP", str(tmp_path)) for a in arguments]
    exit_code, line = run_and_read_error(
        capsys, "evaluate", *arguments, "--bundle", tiny_bundle, "--json", tmp_path / "out.json"
    )
    assert exit_code == code
    assert message in line
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("path", ["/dev/null/x.json", "/"])
def test_unwritable_output_is_wrong_usage(capsys, tiny_bundle: Path, fer2013: Path, path: str):
    code = main(["evaluate", "face", "--fer2013", str(fer2013), "--bundle", str(tiny_bundle), "--json", path])
    (line,) = capsys.readouterr().err.splitlines()
    assert code == 2
    assert f"the figures cannot be written to {path}" in line


def test_evaluation_runs_without_torch_and_scipy(tiny_bundle: Path, fer2013: Path, tmp_path: Path):
    arguments = ["face", "--fer2013", str(fer2013), "--bundle", str(tiny_bundle), "--json", str(tmp_path / "o")]
    code = f"""
import sys
sys.modules["torch"] = sys.modules["scipy"] = None
from moodring.cli import main
sys.exit(main(["evaluate", *{arguments!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "o").read_text())["n"] == 10


@pytest.mark.data
def test_real_clips_have_a_label_as_clip_and_as_stream(evaluate, data_path, tmp_path: Path):
    """Clip evaluation and daemon use the same windows, so the same clips get a label."""
    (tmp_path / "Actor_01").mkdir()
    for path in sorted(data_path("ravdess/Actor_01").glob("*-01-01-01.flac"))[:6]:
        (tmp_path / "Actor_01" / path.name).symlink_to(path)
    clip = evaluate("speech", "--ravdess", tmp_path)
    stream = evaluate("stream", "--ravdess", tmp_path)
    assert clip["n"] == stream["n"] + stream["no_answer"] > 0
    assert stream["no_answer"] == 0
