"""`moodring data`: what there is to be had, and whether a folder holds it whole."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from moodring.cli import main
from moodring.evaluation.data.catalogue import CATALOGUE
from moodring.evaluation.data.verify import verify
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


def test_the_list_says_where_each_is_to_be_had_and_under_which_licence(capsys):
    assert main(["data", "list"]) == 0
    said = capsys.readouterr().out
    page = (ROOT / "docs" / "data.md").read_text()
    for each in CATALOGUE:
        for text in (each.name, each.licence, each.source, each.layout):
            assert text in said
            assert text in page, f"docs/data.md lacks {text}"
        for _, digest in each.md5:
            assert digest in said
            assert digest in page


def test_an_empty_folder_holds_nothing(tmp_path: Path, capsys):
    assert set(verdicts(tmp_path).values()) == {"absent"}
    assert main(["data", "verify", str(tmp_path)]) == 1
    assert main(["data", "verify", str(tmp_path / "none")]) == 1
    assert "there is no such folder" in capsys.readouterr().err


def test_a_part_is_told_from_what_is_broken(tmp_path: Path, capsys):
    write_faces(tmp_path / "fer2013")
    actor = tmp_path / "ravdess" / "Actor_01"
    actor.mkdir(parents=True)
    write_recording(actor / "03-01-03-01-01-01-01.wav", sound=voice(1.5))
    found = verdicts(tmp_path)
    assert (found["FER2013"], found["RAVDESS speech"], found["RAVDESS video"]) == ("part", "part", "absent")
    assert "1 Training, 0 PublicTest" in notes(tmp_path, "FER2013")
    assert "actor 1: 1 of 60" in notes(tmp_path, "RAVDESS speech")
    assert main(["data", "verify", str(tmp_path)]) == 0

    write_recording(actor / "03-01-04-01-01-01-01.wav", sound=np.zeros(4000, np.float32))
    (actor / "03-01-05-01-01-01-01.wav").write_bytes(b"RIFF")
    assert verdicts(tmp_path)["RAVDESS speech"] == "broken"
    said = notes(tmp_path, "RAVDESS speech")
    assert "lasts 0.25 s" in said
    assert "03-01-05-01-01-01-01.wav: cannot be decoded" in said
    write_faces(tmp_path / "fer2013", pixels=9)
    assert "expected 2304 pixels" in notes(tmp_path, "FER2013")
    assert main(["data", "verify", str(tmp_path)]) == 1
    assert "broken" in capsys.readouterr().out


def test_files_are_held_against_the_checksums_beside_them(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "SHA256SUMS").write_text(f"{hashlib.sha256(b'one').hexdigest()}  a\n")
    assert verdicts(tmp_path)["SHA256SUMS"] == "whole"
    (tmp_path / "a").write_bytes(b"other")
    assert notes(tmp_path, "SHA256SUMS") == "a is not the file that was listed"
    (tmp_path / "a").unlink()
    assert notes(tmp_path, "SHA256SUMS") == "a is not there"
    (tmp_path / "SHA256SUMS").write_text("nonsense\n")
    assert verdicts(tmp_path)["SHA256SUMS"] == "broken"


@pytest.mark.data
def test_the_action_units_at_hand_are_whole(data_path):
    folder = data_path("ravdess_au").parent
    finding = next(each for each in verify_only_tables(folder) if each.name == "RAVDESS action units")
    assert finding.verdict == "whole"
    assert finding.notes == ("1200 recordings",)


def verify_only_tables(folder: Path):
    """Verifying everything decodes 1,200 recordings: minutes."""
    from moodring.evaluation.data import verify as module  # noqa: PLC0415

    return [module._table("RAVDESS action units", folder / "ravdess_au" / "manifest.csv")]
