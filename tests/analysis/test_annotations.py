"""Annotation files: intervals, and each format read back by another library than the one that wrote it."""

from __future__ import annotations

import csv
import datetime as dt
import html
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pysubs2
import pytest
import pyxdf
import srt
import textgrid
import webvtt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

import moodring
from moodring import cli
from moodring.analysis.annotations.files import SUFFIXES, check_library, write_annotations
from moodring.analysis.annotations.intervals import (
    MAX_HOLD_MS,
    Annotations,
    Interval,
    annotate_rows,
    holds_ms,
    intervals,
    make_tracks,
    plain,
)
from moodring.analysis.annotations.moments import Moment, Moments, Result, Tier
from moodring.analysis.row import Row
from moodring.errors import UsageError
from moodring.types import BranchView
from tests.support.recordings import write_recording
from tests.support.signals import face_frame, voice

Span = tuple[int, int, str]
CLIP = Path(moodring.__file__).parent / "samples" / "clip.mp4"
AWKWARD = (
    "a --> b",
    "tab\tand\nline",
    "\"quoted\" 'x'",
    "<b>&amp;</b>",
    "\\N{\\an8}",
    "\x00\x1b\ud800\uffff",
    "",
    "  ",
    "0",
    "喜び 😀",
)


def moment(time_ms: int, label: str | None, **branches: str) -> Moment:
    results = {} if label is None else {"expression": Result(label, {label: 0.5, "other": 0.5})}
    results |= {tier: Result(name, {name: 0.75}) for tier, name in branches.items()}
    return Moment(time_ms, "no_face" if label is None else "ok", results)


def made(*moments: Moment, name: str = "clip", clock: str = "start of the recording") -> Annotations:
    return Annotations(name, clock, make_tracks(columns(moments)))


def columns(moments: Iterable[Moment]) -> Moments:
    made = Moments()
    for one in moments:
        made.append(one)
    return made


def found_in(moments: Sequence[Moment]) -> dict[Tier, list[Interval]]:
    return intervals(moments, holds_ms([one.time_ms for one in moments]))


def spans(found: Sequence[Interval]) -> list[Span]:
    return [(one.start_ms, one.end_ms, plain(one.label)) for one in found]


# Intervals


def test_neighbouring_events_with_one_label_merge_and_missing_results_are_gaps():
    moments = [
        moment(200, None),
        moment(400, "happy", face="sad"),
        moment(600, "happy"),
        moment(800, "sad"),
        moment(1000, None),
        moment(1200, "sad", speech="calm"),
    ]
    found = found_in(moments)
    assert found == {
        "expression": [Interval(400, 800, "happy", 0.5, 2), Interval(800, 1000, "sad", 0.5), Interval(1200, 1400, "sad", 0.5)],
        "face": [Interval(400, 600, "sad", 0.75)],
        "speech": [Interval(1200, 1400, "calm", 0.75)],
    }


def test_the_probability_is_the_mean_over_the_events():
    moments = [Moment(200 * k, "ok", {"expression": Result("happy", {"happy": p})}) for k, p in enumerate((0.5, 0.7, 0.9))]
    (found,) = found_in(moments)["expression"]
    assert (found.probability, found.events) == (pytest.approx(0.7), 3)


def test_a_pause_in_the_events_is_a_gap():
    found = found_in([moment(0, "sad"), moment(200, "sad"), moment(60_000, "sad")])["expression"]
    assert spans(found) == [(0, 200 + MAX_HOLD_MS, "sad"), (60_000, 60_200, "sad")]


def test_one_event_and_none():
    assert spans(found_in([moment(0, "sad")])["expression"]) == [(0, 200, "sad")]
    assert found_in([]) == {"expression": [], "face": [], "speech": []}


def test_of_events_with_one_time_the_last_counts():
    assert spans(found_in([moment(0, "sad"), moment(0, "calm"), moment(200, "sad")])["expression"]) == [
        (0, 200, "calm"), (200, 400, "sad"),
    ]  # fmt: skip


def test_moments_out_of_order_are_sorted_and_equal_times_stay():
    moments = [moment(400, "a b"), moment(200, None, face="x"), moment(400, "c"), moment(0, "a b", speech="y")]
    ordered = columns(moments).ordered(start_ms=-5)
    assert [*ordered] == [moments[k]._replace(time_ms=moments[k].time_ms + 5) for k in (3, 1, 0, 2)]
    assert len(ordered) == 4


def test_a_branch_that_the_event_does_not_use_is_a_gap():
    view = BranchView("sad", {"sad": 0.6}, 0.2, 0.0)
    row = Row(0.2, "ok", "sad", 0.6, {"sad": 0.6}, ("face",), face=view, speech=view)
    by_tier = {track.tier: spans(track.intervals) for track in annotate_rows([row], "clip").tracks}
    assert by_tier == {"expression": [(200, 400, "sad")], "face": [(200, 400, "sad")], "speech": []}


# Formats, read by other libraries


def read_vtt(path: Path) -> list[Span]:
    return [(_ms(cue.start_in_seconds, cue.start), _ms(cue.end_in_seconds, cue.end), _label(html.unescape(cue.text)))
            for cue in webvtt.read(str(path))]  # fmt: skip


def _ms(seconds: float, text: str) -> int:
    return 1000 * int(seconds) + int(text[-3:])


def _label(text: str) -> str:
    label, number, sign = text.rsplit(" ", 2)
    assert sign == "%"
    assert 0 <= int(number) <= 100
    return label


def read_srt(path: Path) -> list[Span]:
    millisecond = dt.timedelta(milliseconds=1)
    cues = srt.parse(path.read_text(encoding="utf-8"), ignore_errors=False)
    return [(cue.start // millisecond, cue.end // millisecond, _label(cue.content)) for cue in cues]


def read_eaf(path: Path, tier: str = "expression") -> list[Span]:
    root = etree.parse(str(path)).getroot()
    times = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in root.iter("TIME_SLOT")}
    annotations = root.xpath("TIER[@TIER_ID=$tier]/ANNOTATION/ALIGNABLE_ANNOTATION", tier=tier)
    return [
        (times[one.get("TIME_SLOT_REF1")], times[one.get("TIME_SLOT_REF2")], one.findtext("ANNOTATION_VALUE"))
        for one in annotations
    ]


def read_textgrid(path: Path, tier: str = "expression") -> list[Span]:
    grid = textgrid.TextGrid.fromFile(str(path))
    read = grid.getFirst(tier)
    assert (read.minTime, read.maxTime) == (grid.minTime, grid.maxTime)
    assert all(before.maxTime == after.minTime for before, after in itertools.pairwise(read))  # Praat knows no holes
    return [(round(1000 * one.minTime), round(1000 * one.maxTime), one.mark) for one in read if one.mark]


def read_bids(path: Path, tier: str = "expression") -> list[Span]:
    text = path.read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE, strict=True))
    described = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert set(text.split("\n")[0].split("\t")) == set(described)
    assert {row["trial_type"] for row in rows} == set(described["trial_type"]["Levels"])
    assert [float(row["onset"]) for row in rows] == sorted(float(row["onset"]) for row in rows)
    return [
        (round(1000 * float(row["onset"])), round(1000 * (float(row["onset"]) + float(row["duration"]))), row["trial_type"])
        for row in rows
        if row["tier"] == tier
    ]


def read_xdf(path: Path, name: str = "moodring markers") -> list[Span]:
    streams = {stream["info"]["name"][0]: stream for stream in pyxdf.load_xdf(str(path))[0]}
    stream = streams[name]
    assert int(stream["footer"]["info"]["sample_count"][0]) == len(stream["time_stamps"])
    marks = [(round(1000 * time), text) for time, (text,) in zip(stream["time_stamps"], stream["time_series"], strict=True)]
    return [
        (start, end, text)
        for (start, text), (end, _) in itertools.pairwise(marks)
        if text not in ("no_face", "no_speech", "no_event")
    ]


READERS = {"vtt": read_vtt, "srt": read_srt, "elan": read_eaf, "textgrid": read_textgrid, "bids": read_bids, "xdf": read_xdf}
SRT_TEXT = str.maketrans({"<": "\u2039", ">": "\u203a", "\\": "\uff3c"})


def shown(label: str, kind: str) -> str:
    """Return how a format shows a label: subtitles have a replacement for what their players would interpret."""
    if kind == "srt":
        return label.translate(SRT_TEXT)
    return label.replace("\\", "\uff3c") if kind == "vtt" else label


labels = st.sampled_from(["happy", "sad", *AWKWARD]) | st.text(max_size=8)


@st.composite
def timelines(draw: st.DrawFn) -> list[Moment]:
    steps = draw(st.lists(st.sampled_from([0, 1, 199, 200, 2000, 2001, 90_000_000]) | st.integers(0, 5000), max_size=8))
    times = [min(time, 350_000_000) for time in itertools.accumulate(steps)]
    return [moment(time, draw(st.none() | labels), **draw(branches)) for time in times]


branches = st.dictionaries(st.sampled_from(["face", "speech"]), labels, max_size=2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(timelines())
def test_intervals_are_ordered_and_every_format_holds_them_to_the_millisecond(tmp_path_factory, moments: list[Moment]):
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    annotations = made(*moments)
    assert [*columns(moments)] == moments
    for track in annotations.tracks:
        assert all(one.start_ms < one.end_ms for one in track.intervals)
        assert all(before.end_ms <= after.start_ms for before, after in itertools.pairwise(track.intervals))
    expected = spans(annotations.tracks[0].intervals)
    for kind, read in READERS.items():
        path = folder / f"a{SUFFIXES[kind]}"
        write_annotations(path, annotations, kind, overwrite=True)
        assert read(path) == [(start, end, shown(label, kind)) for start, end, label in expected], kind


@pytest.fixture
def three(tmp_path: Path) -> dict[str, Path]:
    """Every format of three tiers with awkward labels; the files by format."""
    moments = [moment(200 * k, text, face=f"f{k}", speech="calm") for k, text in enumerate(AWKWARD, start=1)]
    return {kind: write_annotations(tmp_path / f"a{SUFFIXES[kind]}", made(*moments), kind)[0] for kind in SUFFIXES}


def test_awkward_labels_stay_whole_in_every_format(three: dict[str, Path]):
    for kind, read in READERS.items():
        assert [text for _, _, text in read(three[kind])] == [shown(plain(text), kind) for text in AWKWARD], kind
        assert three[kind].stat().st_mode & 0o777 == 0o600


def test_files_with_three_tiers_have_each(three: dict[str, Path]):
    assert read_eaf(three["elan"], "speech") == [(200, 2200, "calm")]
    assert read_textgrid(three["textgrid"], "speech") == [(200, 2200, "calm")]
    assert read_textgrid(three["textgrid"], "speech probability") == [(200, 2200, "0.7500")]
    assert len(read_bids(three["bids"], "face")) == len(AWKWARD)
    assert read_xdf(three["xdf"], "moodring speech markers") == [(200, 2200, "calm")]


def test_subtitles_show_the_expression_unless_other_tiers_are_named(tmp_path: Path):
    annotations = made(moment(0, "happy", face="sad"))
    (path,) = write_annotations(tmp_path / "a.vtt", annotations, "vtt")
    assert [cue.text for cue in webvtt.read(str(path))] == ["happy 50 %"]
    (path,) = write_annotations(tmp_path / "b.srt", annotations, "srt", tiers=("expression", "face"))
    assert [cue.text for cue in pysubs2.load(str(path))] == ["expression: happy 50 %", "face: sad 75 %"]


def test_subtitles_hold_more_than_a_day_and_refuse_what_they_cannot(tmp_path: Path):
    day = made(moment(26 * 3_600_000, "sad"))
    for kind in ("vtt", "srt"):
        (path,) = write_annotations(tmp_path / f"a.{kind}", day, kind)
        assert "26:00:00" in path.read_text()
        with pytest.raises(UsageError, match=r"99:59:59.*use elan"):
            write_annotations(tmp_path / f"b.{kind}", made(moment(100 * 3_600_000, "sad")), kind)
        assert not (tmp_path / f"b.{kind}").exists()
    for kind in ("elan", "textgrid", "bids", "xdf"):
        (path, *_) = write_annotations(tmp_path / f"b{SUFFIXES[kind]}", made(moment(1000 * 3_600_000, "sad")), kind)
        assert READERS[kind](path) == [(3_600_000_000, 3_600_000_200, "sad")]


def test_an_eaf_document_refers_to_what_it_holds(tmp_path: Path):
    (tmp_path / "media").mkdir()
    media = tmp_path / "media" / "a b&c.mp4"
    media.touch()
    annotations = made(moment(0, "sad", face="calm"), moment(200, "calm", face="calm"), clock="first event & more")
    (path,) = write_annotations(tmp_path / "a.eaf", annotations, "elan", media=media)
    root = etree.parse(str(path)).getroot()
    order = ["HEADER", "TIME_ORDER", *["TIER"] * 6, "LINGUISTIC_TYPE", "LINGUISTIC_TYPE", *["CONSTRAINT"] * 4]
    assert [child.tag for child in root] == order  # the sequence of the schema
    descriptor = root.find("HEADER/MEDIA_DESCRIPTOR")
    assert descriptor.attrib == {
        "MEDIA_URL": media.as_uri(), "RELATIVE_MEDIA_URL": "./media/a b&c.mp4", "MIME_TYPE": "video/mp4",
    }  # fmt: skip
    (path,) = write_annotations(tmp_path / "b.eaf", annotations, "elan", media=tmp_path / os.fsdecode(b"\xff\x01.mp4"))
    (odd,) = etree.parse(str(path)).getroot().iter("MEDIA_DESCRIPTOR")
    assert odd.get("MEDIA_URL") == f"{tmp_path.as_uri()}/%FF%01.mp4"
    assert "second 0 is the first event & more" in root.xpath("HEADER/PROPERTY/text()")
    ids = {one.get("ANNOTATION_ID"): one.findtext("ANNOTATION_VALUE") for one in root.iter() if one.get("ANNOTATION_ID")}
    references = [one for one in root.iter("REF_ANNOTATION") if one.getparent().getparent().get("PARENT_REF") == "expression"]
    values = [(ids[one.get("ANNOTATION_REF")], one.findtext("ANNOTATION_VALUE")) for one in references]
    assert values == [("sad", "0.5000"), ("calm", "0.5000")]
    types = {one.get("LINGUISTIC_TYPE_ID"): one.get("CONSTRAINTS") for one in root.iter("LINGUISTIC_TYPE")}
    assert types == {"label": None, "probability": "Symbolic_Association"}
    assert {tier.get("LINGUISTIC_TYPE_REF") for tier in root.iter("TIER")} == set(types)


def test_xdf_has_the_streams_of_the_lab_streaming_layer(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    moments = [moment(0, "sad"), moment(200, None), moment(400, None), moment(9000, "calm"), moment(9200, "calm")]
    (path,) = write_annotations(tmp_path / "a.xdf", made(*moments), "xdf", tiers=("expression",))
    streams, header = pyxdf.load_xdf(str(path))
    assert header["info"]["version"] == ["1.0"]
    values, markers = sorted(streams, key=lambda stream: stream["info"]["type"][0])
    assert [stream["info"]["name"][0] for stream in (values, markers)] == ["moodring", "moodring markers"]
    (channels,) = values["info"]["desc"][0]["channels"]
    assert [channel["label"][0] for channel in channels["channel"]] == ["sad", "other", "calm"]
    assert values["time_stamps"].tolist() == [0.0, 0.2, 0.4, 9.0, 9.2]
    nan = np.nan
    expected = [[0.5, 0.5, nan], [nan] * 3, [nan] * 3, [nan, 0.5, 0.5], [nan, 0.5, 0.5]]
    np.testing.assert_array_equal(values["time_series"], np.float32(expected))
    assert [text for (text,) in markers["time_series"]] == ["sad", "no_face", "no_event", "calm", "no_event"]
    assert markers["time_stamps"].tolist() == [0.0, 0.2, 2.4, 9.0, 9.4]
    assert not caplog.records


def test_xdf_counts_beyond_one_byte(tmp_path: Path):
    moments = [moment(200 * k, f"{k} {'x' * 300}") for k in range(300)]
    (path,) = write_annotations(tmp_path / "a.xdf", made(*moments), "xdf", tiers=("expression",))
    assert read_xdf(path) == spans(made(*moments).tracks[0].intervals)


def test_files_that_exist_stay(tmp_path: Path):
    for kind, suffix in SUFFIXES.items():
        path = tmp_path / f"a{suffix}"
        write_annotations(path, made(moment(0, "sad")), kind)
        before = path.read_bytes()
        with pytest.raises(UsageError, match="exists and stays as it is"):
            write_annotations(path, made(moment(0, "calm")), kind)
        assert path.read_bytes() == before
        write_annotations(path, made(moment(0, "calm")), kind, overwrite=True)
        assert path.read_bytes() != before
    (tmp_path / "b_events.json").touch()
    with pytest.raises(UsageError, match=r"b_events\.json exists"):
        write_annotations(tmp_path / "b_events.tsv", made(moment(0, "sad")), "bids")
    assert not (tmp_path / "b_events.tsv").exists()
    with pytest.raises(UsageError, match=r"is a \.tsv file"):
        write_annotations(tmp_path / "b.json", made(moment(0, "sad")), "bids")


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    for kind, name in (("vtt", "pysubs2"), ("elan", "pympi"), ("textgrid", "praatio")):
        for loaded in [module for module in sys.modules if module.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UsageError, match=rf"this format needs {name}.*: pip install 'moodring\[formats\]'"):
            check_library(kind)
    check_library("bids")
    check_library("xdf")


# moodring analyze


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    frames = [face_frame(k) for k in range(25)]
    write_recording(folder / "a.mp4", video_frames=frames)
    write_recording(folder / "a.wav", sound=voice(1.0))
    write_recording(folder / "b.mp4", video_frames=frames)
    return folder


def test_analyze_writes_beside_each_recording_and_replaces_nothing(recordings: Path, capfd: pytest.CaptureFixture[str]):
    out = recordings / "out"
    out.mkdir()
    command = [
        "analyze",
        str(recordings),
        "--annotations",
        str(out),
        "--subtitles",
        "vtt,srt",
        "--elan",
        "--textgrid",
        "--bids",
    ]
    assert cli.main([*command, "--xdf", "--format", "json"]) == 0
    analyses = json.loads(capfd.readouterr().out)["analyses"]
    assert len(list(out.iterdir())) == 3 * (len(SUFFIXES) + 1)
    for analysis, base in zip(analyses, ("a.mp4", "a.wav", "b"), strict=True):
        labels = [label for label, _ in itertools.groupby(row["label"] for row in analysis["rows"]) if label]
        for kind, read in READERS.items():
            assert [text for _, _, text in read(out / f"{base}{SUFFIXES[kind]}")] == labels, (base, kind)
    before = {path: path.read_bytes() for path in out.iterdir()}
    (out / "b.eaf").unlink()
    assert cli.main([*command, "--format", "csv", "--per", "file"]) == 2
    stdout, stderr = capfd.readouterr()
    assert stderr.count("exists and stays as it is") == 3
    assert stdout.count("\n") == 1
    assert {path: path.read_bytes() for path in out.iterdir()} == {k: v for k, v in before.items() if k.name != "b.eaf"}


def test_images_beside_recordings_change_neither_names_nor_results(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    shutil.copy(CLIP, tmp_path / "film.mp4")
    cv2.imwrite(str(tmp_path / "film.png"), face_frame(0))
    assert cli.main(["analyze", str(tmp_path), "--seconds", "1", "--bids", "--format", "csv", "--per", "file"]) == 0
    assert capfd.readouterr().out.count("\n") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "film.png", "film_events.json", "film_events.tsv"]


def test_standard_input_needs_a_folder(tmp_path: Path):
    command = [sys.executable, "-m", "moodring.cli", "analyze", "-", "--seconds", "1", "--xdf"]
    for options, code, words in (
        ([], 2, "/dev/stdin has no folder for annotations; name one with --annotations"),
        (["--annotations", "."], 0, ""),
    ):
        with CLIP.open("rb") as clip:
            done = subprocess.run([*command, *options], stdin=clip, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["stdin.xdf"]


def test_an_analysis_writes_its_annotations(recordings: Path, tmp_path: Path):
    analysis = moodring.analyze(recordings / "b.mp4")
    assert analysis.to_annotations(tmp_path / "b.eaf", "elan") == [tmp_path / "b.eaf"]
    (track, *_) = annotate_rows(analysis.rows, "b").tracks
    assert read_eaf(tmp_path / "b.eaf") == spans(track.intervals) != []
    with pytest.raises(UsageError, match="exists and stays"):
        analysis.to_annotations(tmp_path / "b.eaf", "elan")
    assert len(analysis.to_annotations(str(tmp_path / "b.tsv"), "bids", tiers=["face"], overwrite=True)) == 2
    with pytest.raises(UsageError, match="is an image"):
        moodring.analyze_image(face_frame(0)).to_annotations(tmp_path / "c.vtt", "vtt")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--annotations", "."], "needs a format"),
        (["--bids", "--annotations", "absent"], "is not a folder"),
        (["sub/a.mp4", "--bids", "--annotations", "."], "same annotation file"),
    ],
)
def test_analyze_refuses_before_it_reads(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for path in ("a.mp4", "sub/a.mp4"):
        (tmp_path / path).write_bytes(CLIP.read_bytes())
    assert cli.main(["analyze", "a.mp4", *arguments]) == 2
    stdout, stderr = capfd.readouterr()
    assert words in stderr
    assert stdout == ""
