"""Section of the report on robustness: noise, corrupted input, other corpora, images without faces, ablations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docs.generate.models import figures, wording
from docs.generate.models.blocks import Block, Figure, Heading, Table, Text
from docs.generate.models.evidence import LABEL_SETS, Evidence, percent
from moodring.labels import LABELS

NOISE_SNR_DB = "10"


def robustness(evidence: Evidence, out: Path) -> list[Block]:
    """Return the section and write its charts into `out`. Parts without a measurement are left out."""
    return [
        Heading("Robustness"),
        *_noise(evidence, out),
        *_corruptions(evidence, out),
        *_other_faces(evidence),
        *_other_voices(evidence),
        *_ablations(evidence),
    ]


def _noise(evidence: Evidence, out: Path) -> list[Block]:
    folds = evidence["speech_folds"]
    by_noise = folds.get("by_noise")
    if not by_noise:
        return []
    lines = {wording.title(name.removeprefix("sc_")): list(by_snr.items()) for name, by_snr in by_noise.items()}
    stream = folds["stream"]
    figures.line_panels(out / "robustness_voice.png", {"voice in noise, SNR in dB": lines}, "accuracy, %")
    noisy = [by_snr[NOISE_SNR_DB] for by_snr in by_noise.values()]
    return [
        Figure(
            "robustness_voice.png",
            "Accuracy of the voice over the SNR, for each kind of noise, five folds",
            evidence.source("speech_folds"),
        ),
        Text(
            f"**Noise.** At an SNR of {NOISE_SNR_DB} dB the voice has {percent(sum(noisy) / len(noisy))} accuracy over the "
            f"folds, the mean of {len(noisy)} kinds of noise."
        ),
        Text(
            f"**Stream.** The daemon processed the {stream['clips']} clean clips as a stream. {stream['no_answer']} clips gave "
            "no label. For the others, the result is the most frequent label of the events, and the accuracy is "
            f"{percent(stream['accuracy'])}."
        ),
    ]


def _corruptions(evidence: Evidence, out: Path) -> list[Block]:
    blocks: list[Block] = []
    for name in evidence.files:
        if "by_disturbance" not in evidence[name]:
            continue
        what, file = ("voice", "corrupted_voice.png") if name == "speech_folds" else ("face", "robustness_face.png")
        panels = {_panel_title(kind, part): _panel_lines(part) for kind, part in evidence[name]["by_disturbance"].items()}
        figures.line_panels(out / file, panels, "accuracy, %")
        caption = f"Accuracy of the {what} by kind and strength of corruption"
        blocks.append(Figure(file, caption, evidence.source(name)))
    return blocks


def _panel_title(kind: str, part: Mapping[str, Any]) -> str:
    return f"{wording.title(kind)}, {wording.title(part['unit'])}".rstrip(", ")


def _panel_lines(part: Mapping[str, Any]) -> dict[str, list[tuple[str, float]]]:
    by_strength = part["by_strength"]
    titles = {**LABEL_SETS, "voice": "voice"}
    series = [name for name in next(iter(by_strength.values())) if name in titles]
    return {titles[name]: [(strength, at[name]) for strength, at in by_strength.items()] for name in series}


def _other_faces(evidence: Evidence) -> list[Block]:
    blocks: list[Block] = []
    if "face_ck48" in evidence:
        found = evidence["face_ck48"]
        recall = ", ".join(f"{label} {percent(part['recall'])}" for label, part in found["per_class"].items() if part["n"])
        neutral = sum(row[LABELS.index("neutral")] for row in found["confusion"])
        blocks.append(
            Text(
                f"**Another face corpus.** CK+48: {found['n']} posed studio photographs, detected and cropped as in the "
                f"daemon. The published head has {percent(found['accuracy'])} accuracy. Recall by class: {recall}. No "
                f"photograph is labelled neutral, but {percent(neutral / found['n'])} are classified as neutral "
                "([face_ck48.json](face_ck48.json))."
            )
        )
    if "face_nonfaces" in evidence:
        found = evidence["face_nonfaces"]
        squares, finds = found["squares"], found["haar_finds"]
        blocks.append(
            Text(
                f"**Images without a face.** `usable` rejects {percent(squares['refused'])} of {squares['n']} squares cut from "
                f"such images, and {percent(finds['refused'])} of {finds['n']} false detections of the Haar cascades "
                "([face_nonfaces.json](face_nonfaces.json))."
            )
        )
    return blocks


def _other_voices(evidence: Evidence) -> list[Block]:
    tess = evidence["speech_folds"].get("tess")
    if not tess:
        return []
    speakers = ", ".join(f"{name} {percent(share)}" for name, share in tess["by_speaker"].items())
    return [
        Text(
            f"**Another speech corpus.** TESS: {tess['n']} recordings of two women. The five networks have a mean accuracy of "
            f"{percent(tess['accuracy']['mean'])} (by speaker: {speakers}). The accuracy is much lower on voices that were "
            "recorded elsewhere. Two speakers are too few for any other conclusion."
        )
    ]


def _ablations(evidence: Evidence) -> list[Block]:
    if "ablations" not in evidence:
        return []
    variants = evidence["ablations"]["variants"].values()
    levels = list(next(iter(variants))["mean_by_snr_db"])
    rows = [
        (wording.title(each["says"]), percent(each["clean"]), *(percent(each["mean_by_snr_db"][level]) for level in levels))
        for each in variants
    ]
    return [
        Text(
            "**Ablations.** One network of the speech branch was trained for each row, with one change and always the same "
            "seed. The test used the four held-out actors of fold 0: all clips without noise, and every second clip with each "
            "kind of noise. Training used none of these noises. The table shows accuracies."
        ),
        Table(("ablation", "clean", *(f"{level} dB SNR" for level in levels)), rows, evidence.source("ablations")),
    ]
