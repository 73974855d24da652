"""Synthetic data in the layouts of FER2013 and RAVDESS, and shortened recipes, for trainings of seconds."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import yaml

from moodring.evaluation.data.readers import FER_SIDE

ROOT = Path(__file__).resolve().parents[2]
SMALL: dict[str, dict[str, object]] = {
    "face": {"epochs": 2, "batch": 64, "width": 4, "nonfaces": 4, "small_epochs": 1},
    "speech": {"epochs": 2, "batch": 8, "early": 8, "width": 16, "views": 1, "versions": 2, "nonspeech": 2},
    "fusion": {"epochs": 2, "batch": 16, "pairs": 64, "validation_pairs": 64},
}


def small_recipe(folder: Path, kind: str, **changes: object) -> Path:
    """Write a shortened copy of the committed recipe, and of one recipe before it, into `folder`; return its path."""
    document = yaml.safe_load((ROOT / "configs" / "train" / f"{kind}.yaml").read_text())
    document = {**document, "threads": 1, **SMALL[kind], **changes}
    if document.get("after"):
        without_teacher = {"teacher_weight": 0.0} if kind == "face" else {}
        parent = small_recipe(folder, kind, epochs=1, after="", **without_teacher)
        parent.replace(folder / str(document["after"]))
    path = folder / f"{kind}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def write_faces(folder: Path, rng: np.random.Generator, count: int = 640) -> None:
    votes = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
    rows, plus = ["emotion,pixels,Usage"], ["Usage,Image name," + ",".join(votes)]
    for index in range(count):
        usage = "PublicTest" if index % 8 == 7 else "Training"
        pixels = rng.integers(0, 256, FER_SIDE * FER_SIDE)
        rows.append(f"{index % 7},{' '.join(map(str, pixels))},{usage}")
        counts = rng.integers(0, 4, 10)
        counts[index % 7] += 4  # every class has a majority in some rows
        plus.append(f"{usage},fer{index:07d}.png," + ",".join(map(str, counts)))
    (folder / "fer2013.csv").write_text("\n".join(rows) + "\n")
    (folder / "fer2013new.csv").write_text("\n".join(plus) + "\n")


def write_corpus(folder: Path, labels: tuple[str, ...], speakers: int) -> None:
    """Write a corpus with manifest.csv, one recording of each class by each speaker, and votes for every second recording."""
    rng = np.random.default_rng(len(labels))
    folder.mkdir(parents=True)
    rows = ["path,speaker,label,votes"]
    for speaker in range(1, speakers + 1):
        for place, label in enumerate(labels):
            name = f"{speaker}_{label}.wav"
            _write_wav(folder / name, _tone(100 + 40 * place + 3 * speaker, 0.8 + 0.1 * place, rng))
            rows.append(f"{name},{speaker},{label},{f'{label}:3 neutral:1' if place % 2 else ''}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


def _tone(hz: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    time_s = np.arange(round(16_000 * seconds)) / 16_000
    sound = np.sin(2 * np.pi * hz * time_s) * (np.sin(2 * np.pi * 3 * time_s) > 0) * 0.3
    return sound + 0.001 * rng.standard_normal(len(sound))


def _write_wav(path: Path, sound: np.ndarray) -> None:
    with wave.open(str(path), "wb") as handle:
        handle.setnchannels(1)
        handle.setsampwidth(2)
        handle.setframerate(16_000)
        handle.writeframes((sound * 32767).astype("<i2").tobytes())


def write_voices(folder: Path, rng: np.random.Generator) -> None:
    for actor in (1, 2, 5, 6, 7, 8, 9, 10):
        for emotion in range(1, 9):
            path = folder / f"Actor_{actor:02d}" / f"03-01-{emotion:02d}-01-01-01-{actor:02d}.wav"
            path.parent.mkdir(exist_ok=True)
            _write_wav(path, _tone(90 + 30 * emotion, 1.5, rng))
