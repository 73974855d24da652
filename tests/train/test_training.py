"""`moodring train` from the published data layouts to weights, on small synthetic data."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from benchmarks.experiments import face_seeds
from moodring.errors import DataError, MoodringError, UsageError
from moodring.features.audio.baseline import BaselineInfo
from moodring.features.spec import SpeechSpec
from moodring.train.data import pool
from moodring.train.data.augment_images import erase_patches
from moodring.train.data.faces import load_faces
from moodring.train.data.splits import split_actors
from moodring.train.face import blend_heads, summarize
from moodring.train.models.face import FaceNet
from moodring.train.recipe import FaceRecipe
from moodring.train.run import train
from tests.support.small_training import small_recipe, write_corpus, write_faces, write_voices

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    write_faces(folder, rng)
    write_voices(folder, rng)
    return folder


@pytest.fixture(autouse=True)
def few_nonspeech_sounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "NONSPEECH_SOUNDS", 60)
    monkeypatch.setattr(pool, "VALIDATION_SOUNDS", 20)


def test_every_kind_writes_weights_card_and_run_folder(tmp_path: Path, small_data: Path) -> None:
    out = tmp_path / "out"
    for kind in ("face", "speech", "fusion"):
        recipe = small_recipe(tmp_path, kind)
        assert train(kind, recipe, [small_data], out) == 0
        written = {path.name for path in (out / kind).iterdir()}
        assert {"metrics.json", "curves.png", "confusion.png", "checkpoint.pt"} <= written
        card = json.loads((out / f"{kind}.json").read_text())
        assert card["recipe"]["seed"] == yaml.safe_load(recipe.read_text())["seed"]
        assert card["data"]
        assert card["temperature"]
        metrics = json.loads((out / kind / "metrics.json").read_text())
        assert [row["epoch"] for row in metrics["history"]] == [1, 2]
        assert not list(out.rglob("*.part"))
    card = json.loads((out / "speech.json").read_text())
    assert card["actors"]["test"] == [1, 2]
    assert card["actors"]["train"] == list(split_actors((1, 2, 5, 6, 7, 8, 9, 10), 0).train)
    fusion = json.loads((out / "fusion.json").read_text())
    assert fusion["pairing"] == "paired by class, different people"
    for head in ("official", "ferplus"):
        assert sum(fusion["weights"][head].values()) == pytest.approx(1.0)
        assert fusion["temperature"][head] > 0
        assert 0 < fusion["confident"][head]["threshold"] <= 1


def test_speech_is_trained_on_several_corpora_with_a_baseline(tmp_path: Path, small_data: Path) -> None:
    """The second corpus has classes of its own and votes; its speakers are numbered as the actors of the first one."""
    corpus = tmp_path / "calls"
    write_corpus(corpus, ("angry", "neutral", "sad", "bored"), speakers=12)
    recipe = small_recipe(
        tmp_path, "speech", after="", baseline=0.5, votes=0.5, corpus_balance=0.5, class_balance=0.5, original=0.5, codec=0.5
    )
    out = tmp_path / "out"
    assert train("speech", recipe, [small_data, corpus], out) == 0
    card = json.loads((out / "speech.json").read_text())
    assert [entry["name"] for entry in card["data"]] == ["calls", small_data.name]
    assert card["actors"]["test"] == [1, 2]
    parts = {part: set(speakers) for part, speakers in card["speakers"].items()}
    assert not parts["train"] & parts["validation"]
    assert not (parts["train"] | parts["validation"]) & parts["test"]
    assert len([speaker for speaker in parts["validation"] if speaker.startswith("calls/")]) == 2
    assert "calls/1" in parts["train"] | parts["validation"]  # not the actor 1 that is held out
    columns = SpeechSpec().columns
    assert len(card["baseline"]["mean"]) == len(card["baseline"]["limit"]) == columns
    assert BaselineInfo.from_dict(card["baseline"], columns).limit.min() > 0
    pools = {path.name: path.stat().st_mtime_ns for path in (out / "cache").glob("pool-*")}
    assert {name.split("-")[1] for name in pools} == {"calls", small_data.name, "nonspeech"}
    next((out / "cache").glob("pool-calls-*.npz")).unlink()  # an interruption before the last corpus
    shutil.rmtree(out / "speech")
    assert train("speech", recipe, [small_data, corpus], out) == 0
    times = {path.name: path.stat().st_mtime_ns for path in (out / "cache").glob("pool-*")}
    assert {name for name in pools if times[name] != pools[name]} == {name for name in pools if "-calls-" in name}


def test_one_folder_is_enough_for_faces(tmp_path: Path, small_data: Path) -> None:
    with pytest.raises(UsageError, match="reads one --data folder, got 2"):
        train("face", small_recipe(tmp_path, "face"), [small_data, small_data], tmp_path / "out")


def test_two_corpora_of_one_name_are_refused(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write_corpus(tmp_path / place / "calls", ("angry", "neutral"), speakers=3)
    folders = [tmp_path / place / "calls" for place in ("a", "b")]
    with pytest.raises(DataError, match="two corpora are called calls"):
        train("speech", small_recipe(tmp_path, "speech", after=""), folders, tmp_path / "out")


def test_a_corpus_without_known_labels_is_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path / "calls", ("bored", "amused"), speakers=3)
    with pytest.raises(DataError, match="holds no recording with a label of angry"):
        train("speech", small_recipe(tmp_path, "speech", after=""), [tmp_path / "calls"], tmp_path / "out")


def test_weights_after_a_kill_and_a_resume_equal_those_of_an_uninterrupted_training(tmp_path: Path, small_data: Path) -> None:
    recipe = small_recipe(tmp_path, "face", epochs=4, after="")
    assert train("face", recipe, [small_data], tmp_path / "uninterrupted") == 0
    arguments = f"Path({str(recipe)!r}), [Path({str(small_data)!r})], Path({str(tmp_path / 'killed')!r})"
    script = f"from pathlib import Path; from moodring.train.run import train; train('face', {arguments})"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 1/"):
            process.send_signal(signal.SIGKILL)
            break
    else:
        pytest.fail("the training ended before its first epoch")
    assert process.wait(60) == -signal.SIGKILL
    process.stdout.close()
    assert train("face", recipe, [small_data], tmp_path / "killed") == 0
    expected, resumed = ((tmp_path / run / "face.safetensors").read_bytes() for run in ("uninterrupted", "killed"))
    assert resumed == expected


def test_face_seeds_trains_beside_the_existing_files(tmp_path: Path, small_data: Path) -> None:
    recipe, out = small_recipe(tmp_path, "face"), tmp_path / "out"
    assert train("face", recipe, [small_data], out) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    arguments = ["--config", str(recipe), "--data", str(small_data), "--out", str(out), "--json", str(tmp_path / "seeds.json")]
    assert face_seeds.main([*arguments, "--seeds", "2", "--run", "1"]) == 0
    assert not (tmp_path / "seeds.json").exists()
    assert face_seeds.main([*arguments, "--seeds", "2"]) == 0
    assert {path: path.read_bytes() for path in before} == before
    document = json.loads((tmp_path / "seeds.json").read_text())
    assert [run["seed"] for run in document["runs"]] == [1, 2]
    cards = [json.loads((out / run / "face.json").read_text()) for run in ("", "face_again1")]
    assert [[parent["seed"] for parent in card["before"]] for card in cards] == [[1], [2]]
    assert document["official"]["mean"] == pytest.approx(np.mean([run["official"] for run in document["runs"]]))
    assert all(0 <= run["ferplus_covered"] <= 1 for run in document["runs"])


def test_face_seeds_trains_the_last_part_only(tmp_path: Path, small_data: Path) -> None:
    recipe, out = small_recipe(tmp_path, "face"), tmp_path / "out"
    assert train("face", recipe, [small_data], out) == 0
    arguments = ["--config", str(recipe), "--data", str(small_data), "--out", str(out), "--json", str(tmp_path / "seeds.json")]
    assert face_seeds.main([*arguments, "--seeds", "2", "--last-part"]) == 0
    assert json.loads((tmp_path / "seeds.json").read_text())["parts"] == "last"
    again = out / "face_last1"
    card = json.loads((again / "face.json").read_text())
    assert (card["recipe"]["seed"], [parent["seed"] for parent in card["before"]]) == (2, [1])
    assert (again / "first" / "face.safetensors").read_bytes() == (out / "first" / "face.safetensors").read_bytes()
    assert not (again / "first" / "face").exists()  # no training there
    trained = (again / "face.safetensors").stat().st_mtime_ns
    assert face_seeds.main([*arguments, "--seeds", "2", "--last-part"]) == 0
    assert (again / "face.safetensors").stat().st_mtime_ns == trained


def test_training_reuses_a_complete_parent_network(
    tmp_path: Path, small_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = small_recipe(tmp_path, "face"), tmp_path / "out"
    assert train("face", recipe, [small_data], out) == 0
    folder = tmp_path / "again"
    shutil.copytree(out / "first", folder / "first", ignore=shutil.ignore_patterns("first", "face"))
    capsys.readouterr()
    assert train("face", recipe, [small_data], folder) == 0
    assert capsys.readouterr().out.count("epoch 1/") == 1
    assert (folder / "face.safetensors").read_bytes() == (out / "face.safetensors").read_bytes()
    first = json.loads((folder / "first" / "face.json").read_text())
    (folder / "first" / "face.json").write_text(json.dumps(first | {"finished": False}))
    shutil.rmtree(folder / "face")
    assert train("face", recipe, [small_data], folder) == 0
    assert capsys.readouterr().out.count("epoch 1/") == 2  # an incomplete parent is trained to the end
    shutil.copy2(folder / "face.safetensors", folder / "first")
    (folder / "first" / "face.json").write_text(
        json.dumps(first | {"sha256": json.loads((folder / "face.json").read_text())["sha256"]})
    )
    with pytest.raises(MoodringError, match="another recipe, preprocessing or parent network"):
        train("face", recipe, [small_data], folder)  # its checkpoint has another parent


def test_face_seeds_refuses_another_recipe(tmp_path: Path, small_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, out = small_recipe(tmp_path, "face"), tmp_path / "out"
    assert train("face", recipe, [small_data], out) == 0
    arguments = ["--config", str(recipe), "--data", str(small_data), "--out", str(out), "--json", str(tmp_path / "seeds.json")]
    recipe.write_text(yaml.safe_dump(yaml.safe_load(recipe.read_text()) | {"erase": 0.9}))
    assert face_seeds.main(arguments) == 2
    assert "another recipe (erase)" in capsys.readouterr().err
    for run in ("0", "3"):
        with pytest.raises(SystemExit):
            face_seeds.main([*arguments, "--run", run])
    assert not (out / "face_again1").exists()


@pytest.mark.parametrize("kind", ["face", "fusion"])
def test_training_without_fer2013_fails_even_if_the_working_directory_has_it(
    tmp_path: Path, small_data: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    unpacked, images, out = tmp_path / "build" / "data", tmp_path / "images", tmp_path / "out"
    shutil.copytree(small_data, unpacked)
    shutil.copytree(small_data, images, ignore=shutil.ignore_patterns("fer2013*.csv"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"holds neither fer2013\.csv nor fer2013/fer2013\.csv") as caught:
        train(kind, small_recipe(tmp_path, kind), [images], out)
    assert str(caught.value).startswith(f"{images}: ")
    assert not list(out.rglob("*.safetensors"))


@pytest.mark.parametrize("is_grey", [True, False])
def test_erase_patches_follows_probability_and_side_of_the_recipe(is_grey: bool) -> None:
    document = yaml.safe_load((ROOT / "configs" / "train" / "face.yaml").read_text())
    recipe = FaceRecipe(**{**document, "erase": 0.5, "erase_side": 0.6, "erase_grey": is_grey})
    images = np.full((400, 48, 48), 77, np.uint8) if is_grey else np.full((400, 1, 48, 48), 7.0, np.float32)
    erased = (erase_patches(images.copy(), np.random.default_rng(0), recipe) != images).reshape(400, 48, 48)
    has_patch = erased.any(axis=(1, 2))
    assert 0.4 < has_patch.mean() < 0.6
    assert max(erased.any(axis=axis).sum(axis=1).max() for axis in (1, 2)) < 0.6 * 48 + 1
    assert erased.mean(axis=(1, 2))[has_patch].max() > 0.25


def test_blend_heads_mixes_the_calibrated_logits() -> None:
    model = FaceNet(width=8).eval()
    faces = torch.randn(5, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        _, official, ferplus, usable = model(faces)
        blend_heads(model, {"official": 2.0, "ferplus": 0.5}, 0.2)
        _, official_after, blended, usable_after = model(faces)
    torch.testing.assert_close(blended, 0.8 * ferplus / 0.5 + 0.2 * official / 2.0)
    assert torch.equal(official, official_after)
    assert torch.equal(usable, usable_after)


@pytest.mark.parametrize(("votes", "share"), [(True, 0.2), (False, 1.0)])
def test_training_blends_the_heads_once_and_fully_without_votes(
    tmp_path: Path, small_data: Path, *, votes: bool, share: float
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(small_data, data)
    if not votes:
        (data / "fer2013new.csv").unlink()
    recipe = small_recipe(tmp_path, "face", after="", official_share=0.2)
    assert train("face", recipe, [data], out) == 0
    written = (out / "face.safetensors").read_bytes()
    expected = FaceNet(width=4).eval()
    expected.load_state_dict(torch.load(out / "face" / "best.pt", weights_only=True))
    blend_heads(expected, summarize(expected, load_faces(data, out / "cache"))["temperature"], share)
    torch.testing.assert_close(load_file(out / "face.safetensors"), dict(expected.state_dict()))
    assert train("face", recipe, [data], out) == 0  # all epochs are complete
    assert (out / "face.safetensors").read_bytes() == written
