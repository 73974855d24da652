"""`moodring data verify` on corpora of speech with a manifest."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from moodring.cli import main
from moodring.evaluation.data.finding import Finding
from moodring.evaluation.data.verify import verify
from tests.support.recordings import write_recording
from tests.support.signals import voice


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Return a corpus of four intact recordings of two speakers."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, sound in (("1", voice(1.5)), ("2", voice(1.6)), ("3", voice(1.7)), ("4", voice(1.8))):
        write_recording(folder / f"{name}.wav", sound=sound)
    write_rows(folder, "1.wav,ann,anger", "2.wav,ann,calm", "3.wav,bob,neutral", "4.wav,bob,boredom")
    return folder


def write_rows(folder: Path, *rows: str, header: str = "path,speaker,label") -> None:
    (folder / "manifest.csv").write_text("\n".join((header, *rows)) + "\n")


def finding(folder: Path) -> Finding:
    (found,) = verify(folder)
    return found


def test_intact_corpus_is_complete_and_counted(corpus: Path, capsys):
    found = finding(corpus)
    assert (found.name, found.verdict, found.faults) == ("mine", "complete", ())
    assert found.notes == (
        "4 recordings of 2 speakers, 0.00 h; sample rates: 16000 Hz: 4",
        "classes: angry 1, boredom 1, calm 1, neutral 1",
        "classes that are not moodring's: boredom; only a network trained on them has them",
        "speakers: ann 2, bob 2",
    )
    assert main(["data", "verify", str(corpus)]) == 0
    assert "complete" in capsys.readouterr().out


def test_every_fault_is_listed_with_its_row(corpus: Path, capsys):
    (corpus / "text.wav").write_text("no sound")
    write_recording(corpus / "short.wav", sound=voice(0.5))
    write_recording(corpus / "silent.wav", sound=np.zeros(20_000, np.float32))
    write_recording(corpus / "loud.wav", sound=np.clip(20 * voice(1.5), -1, 1))
    write_recording(corpus / "copy.flac", sound=voice(1.5))
    rows = [
        "1.wav,ann,anger", "gone.wav,ann,sad", "text.wav,ann,sad", "short.wav,ann,sad", "silent.wav,ann,sad",
        "loud.wav,ann,sad", "copy.flac,ann,anger", "../x.wav,ann,sad", "2.wav,,sad", "3.wav,bob,", "1.wav,bob,sad",
        "4.wav,bob,joy,",
    ]  # fmt: skip
    write_rows(corpus, *rows)
    found = finding(corpus)
    assert found.verdict == "damaged"
    expected = [
        "row 2: error: gone.wav: no such file",
        "row 3: error: PATH/text.wav: cannot be decoded as sound",
        "row 4: warning: short.wav is only 0.50 s long; a window needs 1 s",
        "row 5: warning: silent.wav is silent",
        "row 6: warning: loud.wav is clipped",
        "row 7: warning: copy.flac has the same sound as row 1",
        "row 8: error: the path ../x.wav leaves the folder",
        "row 9: error: the speaker is empty",
        "row 10: error: the label is empty",
        "row 11: error: 1.wav is also in row 1",
        "row 12: error: expected 3 columns, found 4",
    ]
    assert len(found.faults) == len(expected)
    for line, start in zip(found.faults, expected, strict=True):
        assert line.startswith(start.replace("PATH", str(corpus)))
    assert found.notes[-1] == f"7 errors and 4 warnings in {corpus / 'manifest.csv'}, listed below"
    assert main(["data", "verify", str(corpus)]) == 1
    output = capsys.readouterr().out
    assert all(f"mine: {line}" in output.splitlines() for line in found.faults)


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("copy.wav,ann,sad", "copy.wav has the same sound as row 1, which is angry of speaker ann"),
        ("copy.wav,bob,anger", "copy.wav has the same sound as row 1, which is angry of speaker ann"),
    ],
)
def test_copies_that_contradict_each_other_are_errors(corpus: Path, row: str, text: str):
    shutil.copy(corpus / "1.wav", corpus / "copy.wav")
    write_rows(corpus, "1.wav,ann,anger", row)
    found = finding(corpus)
    assert (found.verdict, found.faults) == ("damaged", (f"row 2: error: {text}",))


def test_speaker_in_two_parts_of_a_split_is_an_error(corpus: Path):
    rows = ("1.wav,ann,sad,train", "2.wav,ann,sad,test", "3.wav,bob,sad,test", "4.wav,bob,sad,test")
    write_rows(corpus, *rows, header="path,speaker,label,split")
    assert finding(corpus).faults == (
        "row 2: error: speaker ann is in split test here, but in train in row 1; keep all recordings of a speaker in one part",
    )


def test_manifest_that_is_no_table_is_damaged(corpus: Path):
    write_rows(corpus, "1.wav;ann;sad", header="path;speaker;label")
    found = finding(corpus)
    assert found.verdict == "damaged"
    assert "the first line has no column path and speaker and label" in found.notes[0]


def test_corpora_in_a_data_folder_are_verified_beside_the_data_sets(corpus: Path, tmp_path: Path):
    others = {"noise": ("file,kind", "a.wav,tap"), "faces": ("path,speaker,label", "a.jpg,x,sad"),
              "ravdess_au": ("clip,actor,emotion,AU01_r", "01-01,1,sad,0.5")}  # fmt: skip
    for name, (header, row) in others.items():
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name, row, header=header)
    (tmp_path / "half").mkdir()
    write_rows(tmp_path / "half", "a.wav,ann", header="path,speaker")
    found = {each.name: each.verdict for each in verify(tmp_path)}
    assert found["mine"] == "complete"
    assert found["half"] == "damaged"  # a column is missing
    assert found["RAVDESS speech"] == "absent"
    assert found["RAVDESS action units"] == "complete"
    assert not set(others) & set(found)
    write_rows(corpus, "1.wav,ann,", "2.wav,ann,")
    assert "classes: without a label 2" in next(each.notes for each in verify(tmp_path) if each.name == "mine")


def test_names_with_brackets_and_escapes_are_printed_as_text(corpus: Path, capsys):
    write_rows(corpus, "1.wav,[/bold]ann,anger", "[red]\x1b[31mgone.wav,ann,sad")
    assert main(["data", "verify", str(corpus)]) == 1
    output = capsys.readouterr().out
    assert "[/bold]ann 1" in output
    assert "mine: row 2: error: [red]\\x1b[31mgone.wav: no such file" in output


@pytest.mark.data
def test_real_corpus_is_complete(data_path, capsys):
    assert main(["data", "verify", str(data_path("crema_d_sample"))]) == 0
    assert "6 recordings of 1 speakers" in " ".join(capsys.readouterr().out.replace("│", " ").split())
