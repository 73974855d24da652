"""`moodring report` of the output folder of a batch: figures, markup, size, groups and errors."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import pytest

from moodring import cli
from moodring.dashboard.batch.figures import natural, read_figures
from moodring.dashboard.batch.page import MIN_SHARE
from moodring.dashboard.batch.strips import HEIGHT, WIDTH, Columns, file_strip, merge
from moodring.dashboard.batch.tables import open_tables
from moodring.labels import LABELS
from tests.support.media.cuts import write_cuts
from tests.support.signals import face_frame
from tests.support.synthetic_batch import write_batch

parquet = pytest.importorskip("pyarrow.parquet", reason="no pyarrow: pip install 'moodring[batch]'")
HOSTILE = "<img src=x onerror=alert(1)>&\"'.mp4"
MAX_BYTES = 3_000_000
VOID = {"meta", "img", "link", "br", "input", "hr"}


class Document(HTMLParser):
    """The elements of a document, each with its attributes and text. Fails for tags that are not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(self.text)
        self.close()
        assert not self._open, "an element is not closed"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data):
        for place in self._open:
            self.elements[place][2].append(data)

    def texts(self, tag: str, **attributes: str) -> list[str]:
        wanted = attributes.items()
        return ["".join(text) for name, found, text in self.elements if name == tag and wanted <= found.items()]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a manifest of cuts of the bundled clip, one with a hostile name, an image and a damaged file."""
    folder = tmp_path_factory.mktemp("recordings")
    write_cuts(folder, 3, seconds=1.2)
    (folder / "clip_0002.mp4").rename(folder / HOSTILE)
    cv2.imwrite(str(folder / "face.png"), face_frame(0))
    (folder / "bad.mp4").write_text("no video")
    names = ("clip_0000.mp4", HOSTILE, "face.png", "clip_0001.mp4", "bad.mp4")
    with (folder / "list.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("path", "speaker", "label"), *zip(names, ("s10", "s<2>", "", "s10", "s9"), "abcde", strict=True)]
        )
    return folder / "list.csv"


@pytest.fixture(scope="module")
def batch(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("batch") / "out"
    assert cli.main(["batch", str(recordings), "--out", str(out), "--workers", "1", "--csv"]) == 1
    return out


def report(folder: Path, out: Path, *arguments: str) -> Document:
    assert cli.main(["report", str(folder), "--html", str(out), *arguments]) == 0
    document = Document(out)
    assert "<script" not in document.text
    assert "http" not in document.text.replace("http-equiv", "")
    ids = [found["id"] for _, found, _ in document.elements if "id" in found]
    links = [found["href"] for tag, found, _ in document.elements if tag == "a"]
    assert len(ids) == len(set(ids))
    assert {str(link) for link in links} <= {f"#{name}" for name in ids}
    assert not [found for _, found, _ in document.elements if "src" in found or any(name.startswith("on") for name in found)]
    assert out.stat().st_mode & 0o777 == 0o600
    return document


def records(path: Path) -> list[dict[str, object]]:
    return parquet.read_table(path).to_pylist()


def articles(document: Document) -> list[str]:
    return document.texts("article")


# Figures


def test_the_figures_are_those_of_the_tables(batch: Path, tmp_path: Path):
    document = report(batch, tmp_path / "out.html")
    files = records(batch / "files.parquet")
    assert (
        document.texts("h3")[-len(files) :]
        == [file["path"] for file in files]
        == ["clip_0000.mp4", HOSTILE, "face.png", "clip_0001.mp4"]
    )
    weights = [file["rows"] * file["labelled"] for file in files]
    for label in LABELS:
        of_rows = sum(w * file[f"share_{label}"] for w, file in zip(weights, files, strict=True)) / sum(weights)
        of_files = sum(file[f"share_{label}"] for file in files) / len(files)
        assert f"{label}{100 * of_rows:.1f} %{100 * of_files:.1f} %" in document.texts("tr")
    for file, text in zip(files, articles(document), strict=True):
        shown = {label: file[f"share_{label}"] for label in LABELS if file[f"share_{label}"] >= MIN_SHARE}
        assert dict(re.findall(r"([a-z]+) (\d+) %", text.partition(" for ")[2])) == {
            label: f"{100 * share:.0f}" for label, share in shown.items()
        }
    (headline,) = document.texts("p", **{"class": "headline"})
    assert headline.startswith("4 of 5 files analysed: 3 recordings and 1 image, 3.")
    assert "1 file failed." in headline
    failed = next(iter(csv.DictReader((batch / "failures.csv").open(newline=""))))
    assert f"{failed['path']}{failed['reason']}" in document.texts("tr")
    run = json.loads((batch / "run.json").read_text())
    assert {run["bundle"]["sha256"], run["versions"]["onnxruntime"], run["finished"]} <= set(document.texts("dd"))


def test_a_strip_has_the_label_of_each_event(batch: Path):
    events = records(batch / "events.parquet")
    figures = read_figures(open_tables(batch), None)
    assert [multiple.strip is None for multiple in figures.multiples] == [False, False, True, False]
    for multiple in figures.multiples:
        if multiple.strip is None:
            continue
        spans = [
            (label, int(left), int(left) + int(width))
            for label, shape in multiple.strip.shapes.items()
            for left, width in re.findall(r"M(\d+) 0h(\d+)v1h-\2z", shape)
        ]
        rows = [event for event in events if event["path"] == multiple.name]
        assert rows
        for row in rows:
            x = WIDTH * (row["time_s"] - 0.1) / multiple.strip.length_s
            assert [label for label, left, right in spans if left <= x < right] == ([row["label"]] if row["label"] else [])
    assert sum(figures.states.values()) == len(events)


def test_groups_have_a_strip_each_and_names_sort_by_number(batch: Path, tmp_path: Path):
    document = report(batch, tmp_path / "out.html", "--group", "speaker")
    assert document.texts("h3")[-3:] == ["speaker: (empty)", "speaker: s10", "speaker: s<2>"]
    assert "2 files, 2.4 s in all" in articles(document)[1]
    assert document.texts("summary") == ["1 file", "2 files", "1 file"]
    assert report(batch, tmp_path / "own.html", "--group", "label").texts("h3")[-1] == "manifest_label: d"
    assert sorted(["s10", "s2", "b", "s1"], key=natural) == ["b", "s1", "s2", "s10"]


def test_groups_stack_the_shares_of_labels_at_each_time():
    columns = Columns(4.0, 4)
    columns.add([(0.0, 2.0, "happy"), (2.0, 3.0, None)])
    columns.add([(0.0, 1.5, "sad"), (1.5, 4.0, "happy")])
    strip = columns.strip(LABELS)
    bars = {
        label: [(int(left), int(bottom) - int(top)) for left, top, bottom in re.findall(r"M(\d+) (\d+)H\d+V(\d+)H", shape)]
        for label, shape in strip.shapes.items()
    }
    quarter = WIDTH // 4
    half = HEIGHT // 2
    assert bars["happy"] == [(0, half), (quarter, 75), (2 * quarter, half), (3 * quarter, HEIGHT)]
    assert bars["sad"] == [(0, half), (quarter, 25)]


def test_a_strip_beyond_its_limit_has_the_longest_label_of_each_column():
    rows = [(0.2 * (i + 1), "sad" if i % 5 == 0 else "happy") for i in range(3000)] + [(600.2, None), (610.0, "calm")]
    merged = merge(rows, 0.2, from_start=False)
    assert len(merged) == 1202
    assert merged[-1] == (pytest.approx(609.8), pytest.approx(610.0), "calm")
    shapes = file_strip(merged, 610.0, 100).shapes
    assert shapes["happy"].count("M") == 1
    assert "sad" not in shapes
    seconds = merge([(0.0, "happy"), (1.0, "happy"), (2.0, None), (3.0, "sad")], 1.0, from_start=True)
    assert seconds == [(0.0, 2.0, "happy"), (2.0, 3.0, None), (3.0, 4.0, "sad")]


def test_a_batch_per_second_or_per_file_has_what_its_tables_have(recordings: Path, tmp_path: Path):
    clip = recordings.parent / "clip_000[0].mp4"
    second = tmp_path / "second"
    assert cli.main(["batch", str(clip), "--out", str(second), "--workers", "1", "--per", "second"]) == 0
    of_file = write_batch(tmp_path / "file", ["a.mp4"], 9, lambda *_: "happy", per="file")
    for folder, has_strip in ((second, True), (of_file, False)):
        document = report(folder, tmp_path / "out.html")
        assert ("Labels over" in document.text, "State" in document.text) == (has_strip, False)
        assert len(articles(document)) == 1
        assert "none" in document.texts("section", id="failures")[0]


def test_csv_tables_give_the_same_report(batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = report(batch, tmp_path / "parquet.html", "--group", "speaker").text
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert report(batch, tmp_path / "csv.html", "--group", "speaker").text == first


# Size and content


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a batch of 500 recordings whose label changes with each row, more often than a strip can show."""
    names = [f"session_{k // 10:02d}/participant_{k:03d}_of_the_study.mp4" for k in range(500)]
    return write_batch(
        tmp_path_factory.mktemp("large") / "out", names, 190, lambda k, i: LABELS[(k + i) % 8], cells={"own": names}
    )


@pytest.mark.parametrize("arguments", [(), ("--group", "own")])
def test_500_files_stay_below_3_mb(large: Path, tmp_path: Path, arguments: tuple[str, ...]):
    document = report(large, tmp_path / "out.html", *arguments)
    assert len(articles(document)) == 500
    assert len(document.text.encode()) < MAX_BYTES


def test_many_files_are_left_out_of_the_strips_and_not_of_the_shares(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = write_batch(tmp_path / "out", [f"{k}.mp4" for k in range(1003)], 1, lambda k, _: "happy" if k < 1000 else "sad")
    document = report(folder, tmp_path / "out.html")
    assert "the first 1000, and leaves out 3" in capsys.readouterr().err
    assert len(articles(document)) == 1000
    assert "sad0.3 %0.3 %" in document.texts("tr")
    assert "and 3 more, which are in the tables and in the shares above" in document.texts("section", id="index")[0]


def test_hostile_names_are_text(tmp_path: Path):
    labels = ("</svg><script>alert(1)</script>", 'a"b', "happy")
    folder = write_batch(
        tmp_path / "<i>&", [HOSTILE, "line\nbreak\x1b[31m.mp4", "\u202e.mp4"], 6,
        lambda k, i: labels[(k + i) % 3], labels=labels, cells={HOSTILE: [HOSTILE, "", "\0"]},
        failures=[("<b>", "<script>alert(2)</script>")],
    )  # fmt: skip
    for arguments in ((), ("--group", HOSTILE)):
        document = report(folder, tmp_path / "out.html", *arguments)
        assert "<b>" in document.texts("section", id="failures")[0]
        assert {labels[0], labels[1]} <= set(document.texts("title"))
        assert "\x1b" not in document.text
    assert "<i>&: moodring batch" in document.texts("title")


def test_a_batch_in_which_nothing_was_analysed_has_a_report(tmp_path: Path):
    empty = write_batch(tmp_path / "empty", [], 0, lambda *_: None, failures=[("a.mp4", "broken")])
    assert "0 of 1 file analysed: 0 recordings" in report(empty, tmp_path / "out.html").texts("p", **{"class": "headline"})[0]
    blank = write_batch(tmp_path / "blank", ["a.mp4"], 3, lambda *_: None)
    assert "No row has a label" in report(blank, tmp_path / "out.html").text


# Errors


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    capsys.readouterr()
    assert cli.main(["report", *map(str, arguments)]) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err


def test_what_is_no_complete_batch_is_refused(batch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    html = ("--html", tmp_path / "out.html")
    assert "has no run.json: it is not the output of `moodring batch`" in refused(capsys, 2, tmp_path, *html)
    assert "has no column nix; name one of speaker, manifest_label" in refused(capsys, 2, batch, *html, "--group", "nix")
    (tmp_path / "events.jsonl").write_text("")
    assert "--group needs the output folder" in refused(capsys, 2, tmp_path / "events.jsonl", *html, "--group", "a")
    plain = write_batch(tmp_path / "plain", ["a.mp4"], 1, lambda *_: "happy")
    assert "needs a batch of a manifest" in refused(capsys, 2, plain, *html, "--group", "speaker")
    (plain / "events.parquet").unlink()
    assert "has not all of its tables" in refused(capsys, 1, plain, *html)
    assert not (tmp_path / "out.html").exists()


@pytest.mark.parametrize(
    ("name", "change", "code", "message"),
    [
        ("run.json", lambda text: text.replace(b'"complete"', b'"running"'), 1, "is not complete; start the same"),
        ("run.json", lambda text: text[:-9], 2, "is not the record of a batch"),
        ("run.json", lambda _: b"[]", 2, "is not the record of a batch of this version"),
        ("run.json", lambda text: text.replace(b'"rate_hz"', b'"rate"'), 1, "run.json is damaged"),
        ("run.json", lambda text: text.replace(b'"files": 4', b'"files": 5'), 1, "4 files in its tables, and 5 in run.json"),
        ("files.parquet", lambda text: text[:-9], 1, "files.parquet is damaged"),
        ("events.parquet", lambda _: b"", 1, "events.parquet is damaged"),
        ("failures.csv", lambda _: b"", 1, "failures.csv has 0 columns path, not one"),
        ("failures.csv", lambda _: b"path,reason\na\n", 1, "a row has 1 cells, not 2"),
        ("failures.csv", lambda _: b"path,reason\n\xff,b\n", 1, "failures.csv is damaged"),
    ],
)
def test_damage_is_named(batch: Path, tmp_path: Path, capsys, name, change, code, message):
    folder = tmp_path / "out"
    shutil.copytree(batch, folder)
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    assert message in refused(capsys, code, folder, "--html", tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_tables_of_another_batch_are_refused(batch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = write_batch(tmp_path / "out", ["other.mp4"], 2, lambda *_: "happy")
    shutil.copy(batch / "events.parquet", folder / "events.parquet")
    assert "has rows of clip_0000.mp4, which is not in its table of files" in refused(
        capsys, 1, folder, "--html", tmp_path / "x"
    )
    (folder / "events.parquet").unlink()
    shutil.copy(batch / "events.csv", folder / "events.csv")
    (folder / "files.csv").write_text((folder / "files.csv").read_text().replace(",0.4,", ",much,"))
    assert "a table has 'much' in place of a number" in refused(capsys, 1, folder, "--html", tmp_path / "x")
