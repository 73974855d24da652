"""The reader of speech corpora: manifests, listeners' votes, published layouts, and errors with file and row."""

from __future__ import annotations

import csv
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from moodring.errors import DataError
from moodring.evaluation.data.corpus import Clip, read_corpus
from moodring.labels import INDEX, LABELS
from tests.support.recordings import write_empty_wav, write_recording
from tests.support.signals import voice

ROOT = Path(__file__).resolve().parents[2]
FORMATS = [("flac", None), ("wav", None), ("opus", "libopus"), ("ogg", "libopus"), ("mp3", None), ("m4a", None),
           ("webm", "libopus"), ("mka", "ac3"), ("sound", None)]  # fmt: skip


def write_manifest(folder: Path, text: str, files: Iterable[str] = ()) -> Path:
    """Write a manifest and empty files, which the reader does not decode; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def failure(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_corpus(folder)
    return str(caught.value)


def summary(clips: Iterable[Clip]) -> set[tuple[Path, str, str, int | None]]:
    return {(clip.path, clip.speaker, clip.label, clip.index) for clip in clips}


def test_manifest_gives_paths_speakers_labels_weights_and_other_columns(tmp_path: Path):
    text = 'path,speaker,label,weight,sentence\na/1.wav,ann,Anger,0.5,"one, two"\n\na/2.opus, bob ,neutral,,three\n'
    corpus = read_corpus(write_manifest(tmp_path / "mine", text, ["a/1.wav", "a/2.opus"]))
    first, second = corpus.clips
    assert (corpus.name, corpus.speakers, corpus.labels) == ("mine", ("ann", "bob"), ("angry", "neutral"))
    assert (first.path, first.speaker, first.label, first.index) == (tmp_path / "mine/a/1.wav", "ann", "angry", INDEX["angry"])
    assert (first.weight, dict(first.columns), first.row, first.votes) == (0.5, {"sentence": "one, two"}, 1, None)
    assert (second.speaker, second.weight, second.row) == ("bob", 1.0, 3)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("anger", "angry"), ("ANG", "angry"), ("Disgusted", "disgust"), ("fearful", "fear"), ("scared", "fear"),
        ("happiness", "happy"), ("joy", "happy"), ("sadness", "sad"), ("surprised", "surprise"), ("ps", "surprise"),
        ("Pleasant_Surprise", "surprise"), ("neutrality", "neutral"), ("neu", "neutral"), ("calm", "calm"),
    ],
)  # fmt: skip
def test_names_of_other_corpora_map_to_the_eight_classes(tmp_path: Path, text: str, label: str):
    (clip,) = read_corpus(write_manifest(tmp_path, f"path,speaker,label\n1.wav,a,{text}\n", ["1.wav"])).clips
    assert (clip.label, clip.index) == (label, INDEX[label])


def test_classes_of_its_own_come_after_the_eight(tmp_path: Path):
    rows = "".join(f"{n}.wav,speaker {n},{label}\n" for n, label in enumerate(["Boredom", "sad", "awe", "angry"]))
    corpus = read_corpus(write_manifest(tmp_path, "path,speaker,label\n" + rows, [f"{n}.wav" for n in range(4)]))
    assert corpus.labels == ("angry", "sad", "awe", "boredom")
    assert [clip.index for clip in corpus.clips] == [None, INDEX["sad"], None, INDEX["angry"]]


def test_corpus_without_labels_has_no_classes(tmp_path: Path):
    corpus = read_corpus(write_manifest(tmp_path, "path,speaker,label\n1.wav,a,\n2.wav,b, \n", ["1.wav", "2.wav"]))
    assert corpus.labels == ()
    assert [(clip.label, clip.index) for clip in corpus.clips] == [("", None)] * 2


def test_manifests_of_spreadsheets_and_of_windows_are_read(tmp_path: Path):
    write_manifest(tmp_path, "", ["a/1.wav"])
    (tmp_path / "manifest.csv").write_bytes("Path,Speaker,Label\r\na\\1.wav,Zoë,joy\r\n".encode("utf-8-sig"))
    (clip,) = read_corpus(tmp_path).clips
    assert (clip.path, clip.speaker, clip.label) == (tmp_path / "a/1.wav", "Zoë", "happy")


def test_columns_of_published_manifests_are_known(tmp_path: Path):
    text = "file,actor,emotion,audio\n1.wav,7,fearful,x.flac\n"
    (clip,) = read_corpus(write_manifest(tmp_path, text, ["1.wav"])).clips
    assert (clip.speaker, clip.label, dict(clip.columns)) == ("7", "fear", {"audio": "x.flac"})


def test_votes_of_a_cell_and_of_votes_csv_are_shares(tmp_path: Path):
    text = "path,speaker,label,votes\n1.wav,a,angry,anger:3 sad:1\n2.wav,a,sad,\nb/3.wav,a,boredom,sad:1\n"
    write_manifest(tmp_path, text, ["1.wav", "2.wav", "b/3.wav"])
    assert [clip.votes for clip in read_corpus(tmp_path).clips] == [{"angry": 0.75, "sad": 0.25}, None, {"sad": 1.0}]
    (tmp_path / "votes.csv").write_text(
        "clip,channel,angry,sad,surprised,boredom,n,winner\n"
        "2,voice,1,3,0,0,4,S\n2,face,4,0,0,0,4,A\nb/3.wav,voice,0,0,1,1,2,U\nelsewhere,voice,1,0,0,0,1,A\n"
    )
    assert [clip.votes for clip in read_corpus(tmp_path).clips] == [
        {"angry": 0.75, "sad": 0.25}, {"angry": 0.25, "sad": 0.75}, {"surprise": 0.5, "boredom": 0.5},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        ("name,angry\n1,3\n", "the first line must name the column clip and one for each class"),
        ("clip,winner\n1,A\n", "the first line must name the column clip and one for each class"),
        ("clip,angry\n1,many\n", "row 1: the votes for angry must be a number of at least 0, found 'many'"),
        ("clip,angry\n1,3\n1,4\n", "row 2: 1 has votes in another row as well"),
        ("clip,angry\n1,3,4\n", "row 1: expected 2 columns, found 3"),
        ("clip,angry\n2,1\n", "2 names 2 files of manifest.csv; name the clips by their paths"),
    ],
)
def test_faults_of_votes_csv_are_named(tmp_path: Path, votes: str, message: str):
    files = ["1.wav", "a/2.wav", "b/2.wav"]
    write_manifest(tmp_path, "path,speaker,label\n" + "".join(f"{name},x,sad\n" for name in files), files)
    (tmp_path / "votes.csv").write_text(votes)
    assert failure(tmp_path).startswith(f"{tmp_path / 'votes.csv'}: ")
    assert message in failure(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("none.wav,a,sad,1,", "row 2: none.wav: no such file"),
        ("folder,a,sad,1,", "row 2: folder: no such file"),
        (",a,sad,1,", "row 2: the path is empty"),
        ("2.wav,,sad,1,", "row 2: the speaker is empty"),
        ("2.wav,a,,1,", "row 2: the label is empty"),
        ("2.wav,a,sad,1", "row 2: expected 5 columns, found 4"),
        ("2.wav,a,sad,1,x,y", "row 2: expected 5 columns, found 6; a cell with a comma needs quotation marks"),
        ("../2.wav,a,sad,1,", "row 2: the path ../2.wav leaves the folder"),
        ("a/../../2.wav,a,sad,1,", "row 2: the path a/../../2.wav leaves the folder"),
        ("..\\2.wav,a,sad,1,", "row 2: the path ..\\2.wav leaves the folder"),
        ("/etc/passwd,a,sad,1,", "row 2: the path /etc/passwd leaves the folder"),
        ("1.wav,b,sad,1,", "row 2: 1.wav is also in row 1; keep one of the rows"),
        ("./folder/../1.wav,b,sad,1,", "row 2: 1.wav is also in row 1"),
        ("2.wav,a,sad,-1,", "row 2: weight must be a number of at least 0, found '-1'"),
        ("2.wav,a,sad,nan,", "row 2: weight must be a number"),
        ("2.wav,a,sad,1,sad", "row 2: votes must be labels and counts such as 'angry:6 disgust:2', found 'sad'"),
        ("2.wav,a,sad,1,sad:x", "row 2: votes must be labels and counts"),
        (f"{'a' * 5000}.wav,a,sad,1,", ".wav: no such file"),
        ("a\0b.wav,a,sad,1,", "b.wav: no such file"),
    ],
)
def test_fault_of_a_row_is_named(tmp_path: Path, row: str, message: str):
    (tmp_path / "2.wav").touch()
    text = f"path,speaker,label,weight,votes\n1.wav,a,sad,1,\n{row}\n"
    folder = write_manifest(tmp_path / "mine", text, ["1.wav", "2.wav", "folder/3.wav"])
    assert failure(folder).startswith(f"{folder / 'manifest.csv'}: row 2: ")
    assert message in failure(folder)


def test_message_counts_the_other_faults(tmp_path: Path):
    write_manifest(tmp_path, "path,speaker,label\n1.wav,a,sad\n2.wav,a,sad\n3.wav,a,sad\n")
    assert f"row 1: 1.wav: no such file (and 2 more: run moodring data verify {tmp_path})" in failure(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\n1.wav,sad\n", "the first line has no column speaker; it must name path, speaker and label"),
        ("path;speaker;label\n1.wav;a;sad\n", "the first line has no column path and speaker and label"),
        ("path,speaker,label\n", "has no rows below its header"),
        ("", "has no rows below its header"),
        ("path,speaker,label,label\n1.wav,a,sad,sad\n", "the first line names a column twice"),
        ("path,speaker,label\n" + '"' + "x" * 200_000, "cannot be read as comma-separated text in UTF-8"),
    ],
)
def test_fault_of_a_manifest_is_named(tmp_path: Path, text: str, message: str):
    assert message in failure(write_manifest(tmp_path, text))


def test_folders_that_are_no_corpus_are_named(tmp_path: Path):
    assert ": no such folder" in failure(tmp_path / "nothing")
    assert "holds neither manifest.csv (path,speaker,label) nor recordings in the layout of RAVDESS or TESS" in failure(
        tmp_path
    )
    (tmp_path / "manifest.csv").write_bytes(b"path,speaker,label\n\xff\xfe.wav,a,sad\n")
    assert "cannot be read as comma-separated text in UTF-8" in failure(tmp_path)


def test_published_layouts_need_no_manifest(tmp_path: Path):
    for name in ("ravdess/Actor_02/03-01-06-01-01-01-02.opus", "tess/OAF/OAF_back_ps.mp3", "tess/OAF/OAF_back_ps.flac"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (clip,) = read_corpus(tmp_path / "ravdess").clips
    assert (clip.speaker, clip.label, clip.index, clip.row) == ("2", "fear", INDEX["fear"], None)
    (clip,) = read_corpus(tmp_path / "tess").clips
    assert (clip.speaker, clip.label, clip.path.suffix) == ("OAF", "surprise", ".flac")


@pytest.mark.parametrize(("suffix", "codec"), FORMATS)
def test_sound_is_decoded_from_every_format(tmp_path: Path, suffix: str, codec: str | None):
    rate_hz = 48_000 if codec else 16_000
    sound = voice(1.5, rate_hz)
    path = write_recording(
        tmp_path / f"1.{'wav' if suffix == 'sound' else suffix}", sound=sound, rate_hz=rate_hz, audio_codec=codec
    )
    if suffix == "sound":
        path.rename(tmp_path / "1.sound")
    write_manifest(tmp_path, f"path,speaker,label\n1.{suffix},a,sad\n")
    (clip,) = read_corpus(tmp_path).clips
    samples = clip.read()
    assert samples.dtype == np.float32
    assert samples.size / 16_000 == pytest.approx(1.5, abs=0.1)
    level_db = 20 * np.log10(samples.std() / sound.std())
    assert abs(level_db) < 2


def test_sound_of_a_video_and_tags_in_latin_1_are_read(tmp_path: Path, talking_face: Path):
    shutil.copy(talking_face, tmp_path / "1.mp4")
    path = write_recording(tmp_path / "2.wav", sound=voice(1.2))
    title = b"INFOINAM" + struct.pack("<I", 6) + "Müller".encode("latin-1")
    content = path.read_bytes() + b"LIST" + struct.pack("<I", len(title)) + title
    path.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    write_manifest(tmp_path, "path,speaker,label\n1.mp4,a,sad\n2.wav,a,sad\n")
    assert all(clip.read().size > 16_000 for clip in read_corpus(tmp_path).clips)


def test_unreadable_sound_is_named_with_its_row(tmp_path: Path):
    write_manifest(tmp_path, "path,speaker,label\n1.wav,a,sad\n2.wav,a,sad\n", ["1.wav"])
    write_empty_wav(tmp_path / "2.wav")
    first, second = read_corpus(tmp_path).clips
    with pytest.raises(DataError, match=r"1\.wav: cannot be decoded as sound .*\(manifest\.csv row 1\)"):
        first.read()
    with pytest.raises(DataError, match=r"2\.wav: holds no samples.*row 2"):
        second.read()


def test_manifest_of_the_documentation_is_read(tmp_path: Path):
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    text = next(block for block in page.split("```") if block.startswith("\npath,speaker,label")).lstrip()
    names = [line.split(",")[0] for line in text.splitlines()[1:]]
    corpus = read_corpus(write_manifest(tmp_path, text, names))
    assert len(corpus.clips) == len(names) == 9
    assert corpus.speakers == ("ann", "bob", "eve")
    assert corpus.labels == ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "boredom")
    assert corpus.clips[0].votes == {"angry": 6 / 9, "disgust": 2 / 9, "neutral": 1 / 9}


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "clips", "speakers", "classes"),
    [
        ("crema_d", 5718, 70, 6), ("ased", 2470, 65, 5), ("nemo", 647, 9, 6), ("urdu", 400, 29, 4), ("ketts", 300, 15, 4),
        ("tess", 350, 2, 7), ("ravdess", 1200, 20, 8), ("read_speech", 110, 110, 0), ("crema_d_sample", 6, 1, 6),
    ],
)  # fmt: skip
def test_real_corpora_have_their_counts(data_path, name: str, clips: int, speakers: int, classes: int):
    corpus = read_corpus(data_path(name))
    assert (len(corpus.clips), len(corpus.speakers), len(corpus.labels)) == (clips, speakers, classes)
    assert set(corpus.labels) <= set(LABELS)
    if name == "crema_d":
        assert all(clip.votes and sum(clip.votes.values()) == pytest.approx(1.0) for clip in corpus.clips)


@pytest.mark.data
@pytest.mark.parametrize(("name", "part"), [("ravdess", "Actor_01"), ("tess", "YAF")])
def test_manifest_and_names_of_real_corpora_give_the_same_clips(data_path, tmp_path: Path, name: str, part: str):
    source = data_path(name)
    (tmp_path / part).mkdir()
    for path in (source / part).iterdir():
        (tmp_path / part / path.name).symlink_to(path)
    by_name = read_corpus(tmp_path).clips
    with (source / "manifest.csv").open(newline="") as file, (tmp_path / "manifest.csv").open("w", newline="") as kept:
        rows = list(csv.reader(file))
        csv.writer(kept).writerows([rows[0], *(row for row in rows[1:] if row[0].startswith(f"{part}/"))])
    by_manifest = read_corpus(tmp_path).clips
    assert len(by_name) >= 60
    assert summary(by_manifest) == summary(by_name)
