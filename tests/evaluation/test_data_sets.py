"""`moodring data`: the catalogue of data sets, and the verification of a folder."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from moodring.cli import main
from moodring.evaluation.data.catalogue import CATALOGUE
from moodring.evaluation.data.verify import Finding, verify
from tests.support.recordings import write_recording
from tests.support.signals import voice

ROOT = Path(__file__).resolve().parents[2]


def verdicts(folder: Path) -> dict[str, str]:
    return {finding.name: finding.verdict for finding in verify(folder)}


def notes(folder: Path, name: str) -> str:
    return "\n".join(next(finding.notes for finding in verify(folder) if finding.name == name))


def write_faces(folder: Path, pixels: int = 48 * 48) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / "fer2013.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("emotion", "pixels", "Usage"))
        writer.writerow((3, " ".join(["7"] * pixels), "Training"))


def test_data_list_prints_every_field_of_the_catalogue(capsys):
    assert main(["data", "list"]) == 0
    output = capsys.readouterr().out
    for each in CATALOGUE:
        for text in (
            each.name,
            each.description,
            each.used_for,
            each.licence,
            each.commercial,
            each.source,
            each.layout,
            each.size,
        ):
            assert text in output
        for name, digest in each.md5:
            assert f"MD5 of {name}: {digest}" in output


def test_data_page_repeats_the_catalogue():
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for each in CATALOGUE:
        licence = f"{each.licence}; commercial use: {each.commercial}"
        row = f"| {each.name} | {each.description} | {licence} | {each.source} | `{each.layout}` | {each.size} |"
        assert row in page, f"docs/data.md lacks the row {row}"
        for name, digest in each.md5:
            assert f"- `{name}`: `{digest}`" in page, f"docs/data.md lacks the MD5 of {name}"


def test_verify_fails_for_an_empty_or_missing_folder(tmp_path: Path, capsys):
    assert set(verdicts(tmp_path).values()) == {"absent"}
    assert main(["data", "verify", str(tmp_path)]) == 1
    assert main(["data", "verify", str(tmp_path / "none")]) == 1
    assert ": no such folder" in capsys.readouterr().err


def test_verify_distinguishes_partial_from_damaged_data(tmp_path: Path, capsys):
    write_faces(tmp_path / "fer2013")
    actor = tmp_path / "ravdess" / "Actor_01"
    actor.mkdir(parents=True)
    write_recording(actor / "03-01-03-01-01-01-01.wav", sound=voice(1.5))
    found = verdicts(tmp_path)
    assert (found["FER2013"], found["RAVDESS speech"], found["RAVDESS video"]) == ("partial", "partial", "absent")
    assert "1 Training, 0 PublicTest" in notes(tmp_path, "FER2013")
    assert "actor 1: 1 of 60" in notes(tmp_path, "RAVDESS speech")
    assert main(["data", "verify", str(tmp_path)]) == 0

    write_recording(actor / "03-01-04-01-01-01-01.wav", sound=np.zeros(4000, np.float32))
    (actor / "03-01-05-01-01-01-01.wav").write_bytes(b"RIFF")
    assert verdicts(tmp_path)["RAVDESS speech"] == "damaged"
    speech_notes = notes(tmp_path, "RAVDESS speech")
    assert "03-01-04-01-01-01-01.wav: is only 0.25 s long" in speech_notes
    assert "03-01-05-01-01-01-01.wav: cannot be decoded" in speech_notes
    write_faces(tmp_path / "fer2013", pixels=9)
    assert "expected 2304 pixels" in notes(tmp_path, "FER2013")
    assert main(["data", "verify", str(tmp_path)]) == 1
    assert "damaged" in capsys.readouterr().out


def test_verify_checks_files_against_sha256sums(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(b'one').hexdigest()}  a\n")
    assert verdicts(tmp_path)["SHA256SUMS"] == "complete"
    (tmp_path / "a").write_bytes(b"other")
    assert notes(tmp_path, "SHA256SUMS") == "a does not match its checksum"
    (tmp_path / "a").unlink()
    assert notes(tmp_path, "SHA256SUMS") == "a does not exist"
    (tmp_path / "SHA256SUMS").write_text("nonsense\n")
    assert verdicts(tmp_path)["SHA256SUMS"] == "damaged"


@pytest.mark.data
def test_verify_finds_the_real_action_units_complete(data_path, tmp_path: Path):
    (tmp_path / "ravdess_au").symlink_to(data_path("ravdess_au"))  # alone: to verify all data decodes 1,200 recordings
    assert Finding("RAVDESS action units", "complete", ("1200 recordings",)) in verify(tmp_path)
