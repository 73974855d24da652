"""moodring.analyze: the rows of recordings, images and sound, from files and from arrays, and the tables made of them."""

from __future__ import annotations

import dataclasses
import gc
import json
import signal
import subprocess
import sys
import threading
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest

import moodring
from moodring import cli
from moodring.analysis.row import Row, columns
from moodring.analysis.summary import Tally, summary_columns
from moodring.config import FaceConfig, InferenceConfig, LabelsConfig
from moodring.errors import ConfigError, MediaError, UsageError
from moodring.labels import LABELS
from moodring.publish.cloudevents import DECIMALS
from moodring.run.replay import reproducible
from tests.support.recordings import write_empty_wav, write_recording
from tests.support.signals import empty_frame, face_frame, voice


@pytest.fixture(scope="module")
def models() -> moodring.Models:
    return moodring.load_models()


@pytest.fixture(scope="module")
def analysis(talking_face: Path, models: moodring.Models) -> moodring.Analysis:
    return moodring.analyze(talking_face, models=models)


def two_faces() -> np.ndarray:
    """Return an image uint8 [480, 720] of two faces, of which the right one is larger."""
    image = np.full((480, 720), 128, np.uint8)
    image[120:360, :320] = face_frame(0)
    image[:, 320:] = face_frame(20, width=400, height=480)
    return image


def encoded(image: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


# Recordings


def test_the_rows_of_a_recording_are_the_events_of_a_run(analysis: moodring.Analysis, talking_face: Path, tmp_path: Path):
    assert cli.main(["run", str(talking_face), "--pace", "max", "--events", str(tmp_path / "events.jsonl")]) == 0
    events = [json.loads(line)["data"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert len(analysis) == len(events) == 15
    for index, (row, event) in enumerate(zip(analysis, events, strict=True)):
        assert row.time_s == pytest.approx(0.2 * (index + 1))
        assert (row.state, row.label, list(row.modalities)) == (event["state"], event["label"], event["modalities"])
        for found, published in ((row.probabilities, event["probabilities"]), *branches(row, event)):
            assert {label: round(p, DECIMALS) for label, p in (found or {}).items()} == (published or {})
        assert [face["id"] for face in event["faces"]][:1] == ([] if row.face_id is None else [row.face_id])
        assert [tuple(face["box_xywh"]) for face in event["faces"]][:1] == ([] if row.box_xywh is None else [row.box_xywh])


def branches(row: Row, event: dict) -> list[tuple]:
    pairs = ((row.face, event["face"]), (row.speech, event["speech"]))
    return [(view.probabilities, published["probabilities"]) for view, published in pairs if view or published]


def test_an_analysis_describes_its_recording(analysis: moodring.Analysis, talking_face: Path, models: moodring.Models):
    assert (analysis.source, analysis.kind) == (str(talking_face), "video")
    assert analysis.duration_s == pytest.approx(3.0, abs=0.1)
    assert analysis.frame_wh == (320, 240)
    assert analysis.bundle_id == models.bundle.id
    assert analysis.labels == LABELS
    assert analysis.missing == ()


def test_a_recording_can_be_cut_and_missing_parts_are_named(tmp_path: Path, models: moodring.Models):
    path = write_recording(tmp_path / "no_face.mp4", video_frames=[empty_frame(i) for i in range(50)])
    analysis = moodring.analyze(path, models=models, seconds=1.0)
    assert len(analysis) == 5
    assert analysis.missing == ("no face was found in any frame", "the recording has no sound")
    assert {row.state for row in analysis} == {"no_face"}
    assert analysis.summary.label is None
    assert "no label" in str(analysis.summary)


def test_the_result_does_not_depend_on_the_threads_of_opencv(talking_face: Path, analysis: moodring.Analysis):
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        assert moodring.analyze(talking_face).rows == analysis.rows
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_analyses_in_threads_share_networks(talking_face: Path, models: moodring.Models, analysis: moodring.Analysis):
    found: list[moodring.Analysis] = []
    threads = [threading.Thread(target=lambda: found.append(moodring.analyze(talking_face, models=models))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.rows for one in found] == [analysis.rows] * 2


def test_an_analysis_leaves_nothing_to_the_garbage_collector(talking_face: Path, models: moodring.Models):
    """Frames that refer to themselves once stayed in memory until the collector found them."""
    gc.collect()
    gc.disable()
    try:
        moodring.analyze(talking_face, models=models)
        assert gc.collect() < 20  # the recording has 75 frames
    finally:
        gc.enable()


def test_nothing_is_printed_and_the_process_stays_as_it_was(talking_face: Path, capfd: pytest.CaptureFixture[str]):
    def state() -> list[object]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        return [handlers, cv2.getNumThreads(), sys.excepthook]

    before, threads = state(), set(threading.enumerate())
    moodring.analyze(talking_face)
    assert state() == before
    assert set(threading.enumerate()) <= threads  # a thread of an earlier test may end meanwhile
    assert capfd.readouterr() == ("", "")


def test_the_import_loads_nothing_and_the_names_are_listed():
    code = "import sys, moodring; print(*(n for n in ('numpy', 'cv2', 'av', 'moodring.analysis') if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    assert {"analyze", "analyze_image", "analyze_sound", "open_stream", "Analysis"} <= set(moodring.__all__) & set(
        dir(moodring)
    )


# Images


def test_an_image_gives_a_row_for_each_face_largest_first(models: moodring.Models, tmp_path: Path):
    path = tmp_path / "two.png"
    path.write_bytes(encoded(two_faces()))
    analysis = moodring.analyze(path, models=models)
    assert (analysis.kind, analysis.frame_wh, analysis.duration_s) == ("image", (720, 480), 0.0)
    assert [(row.face_id, row.faces, row.state) for row in analysis] == [(1, 2, "ok"), (2, 2, "ok")]
    (x, _, w, _), (smaller_x, _, smaller_w, _) = (row.box_xywh or (0, 0, 0, 0) for row in analysis)
    assert w > smaller_w
    assert x > 320 > smaller_x
    for row in analysis:
        assert row.probabilities is not None
        assert row.label == max(row.probabilities, key=row.probabilities.get)
        assert sum(row.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert (row.usable or 0) > 0.5 < (row.quality or 0)
    lines = str(analysis).splitlines()
    assert "image, 2 faces" in lines[0]
    assert len(lines) == 4


def test_a_path_bytes_and_arrays_give_the_same_rows(models: moodring.Models, tmp_path: Path):
    grey = two_faces()
    path = tmp_path / "two.png"
    path.write_bytes(encoded(grey))
    rows = moodring.analyze_image(path, models=models).rows
    assert moodring.analyze(path.read_bytes(), models=models).rows == rows
    assert moodring.analyze(grey, models=models).rows == rows
    assert moodring.analyze(grey[:, :, None], models=models).rows == rows


def test_colours_are_converted_as_those_of_a_file(models: moodring.Models):
    grey = two_faces()
    bgr = np.dstack([grey, grey // 2, np.uint8(255) - grey // 3])
    rows = moodring.analyze(encoded(bgr), models=models).rows
    rgb = np.ascontiguousarray(bgr[:, :, ::-1])
    assert moodring.analyze(rgb, models=models).rows == rows
    assert moodring.analyze_image(bgr, colour="bgr", models=models).rows == rows
    assert moodring.analyze_image(np.dstack([rgb, grey]), models=models).rows == rows


def test_small_faces_of_a_large_image_are_found(models: moodring.Models):
    image = np.full((1200, 1600), 128, np.uint8)
    for index in range(8):
        x, y = 80 + 380 * (index % 4), 150 + 500 * (index // 4)
        image[y : y + 180, x : x + 240] = face_frame(0, width=240, height=180)
    assert [row.face_id for row in moodring.analyze(image, models=models)] == list(range(1, 9))


def test_an_image_without_a_face_gives_one_row(models: moodring.Models):
    (row,) = moodring.analyze(empty_frame(0), models=models)
    assert row == Row(0.0, "no_face")
    assert moodring.analyze(np.zeros((1, 1), np.uint8), models=models).summary.faces == 0


def test_a_face_of_low_quality_has_no_label(models: moodring.Models):
    config = dataclasses.replace(moodring.Config(), face=FaceConfig(min_quality=1.0))
    for row in moodring.analyze(cv2.GaussianBlur(two_faces(), (15, 15), 0), config=config, models=models):
        assert (row.state, row.label, row.face) == ("no_face", None, None)
        assert row.quality is not None


def test_photographs_with_several_faces(models: moodring.Models, data_path):
    for name, faces in (("fr_two_people.jpg", 2), ("pyfeat_multi_face.jpg", 4), ("pyfeat_noface_mountain.jpg", 0)):
        path = data_path(f"face_images/{name}")
        analysis = moodring.analyze(path, models=models)
        assert analysis.summary.faces == faces
        assert all(row.state == "ok" for row in analysis) or not faces
        assert moodring.analyze_image(path.read_bytes(), models=models).rows == analysis.rows


# Sound


@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (44_100, 2)])
def test_a_sound_array_gives_the_rows_of_the_file(models: moodring.Models, tmp_path: Path, rate_hz: int, channels: int):
    mono = (voice(2.0, rate_hz) * 32_767).astype(np.int16)
    samples = np.stack([mono, mono // 2][:channels], axis=1)
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.tobytes())
    analysis = moodring.analyze(tmp_path / "voice.wav", models=models)
    assert (analysis.kind, len(analysis), analysis.frame_wh) == ("sound", 10, None)
    assert any(row.speech for row in analysis)
    assert moodring.analyze_sound(tmp_path / "voice.wav", models=models).rows == analysis.rows
    assert moodring.analyze(samples, rate_hz=rate_hz, models=models).rows == analysis.rows
    assert moodring.analyze(samples.T, rate_hz=rate_hz, models=models).rows == analysis.rows
    assert moodring.analyze_sound(samples / np.float32(32_768), rate_hz, models=models).rows == analysis.rows
    assert moodring.analyze_sound(samples.astype(">i2"), rate_hz, models=models).rows == analysis.rows


def test_the_sound_of_a_video_can_be_analysed_alone(talking_face: Path, models: moodring.Models):
    analysis = moodring.analyze_sound(talking_face, models=models)
    assert analysis.kind == "sound"
    assert all(row.face is None and row.face_id is None for row in analysis)


# What is wrong


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda f: moodring.analyze(f / "absent.mp4"), UsageError, "absent.mp4: no such file"),
        (moodring.analyze, UsageError, "is a directory"),
        (lambda f: moodring.analyze(f / "text.mp4"), MediaError, "text.mp4 cannot be opened"),
        (lambda f: moodring.analyze(f / "empty.wav"), MediaError, "contains no audio"),
        (lambda f: moodring.analyze_sound(f / "image.png"), MediaError, "contains no sound"),
        (lambda f: moodring.analyze_image(f / "video.mp4"), UsageError, "is a recording, not an image"),
        (lambda _: moodring.analyze(b"not an image"), MediaError, "12 bytes cannot be decoded as an image"),
        (lambda f: moodring.analyze((f / "image.png").read_bytes()[:60]), MediaError, "60 bytes"),
        (lambda _: moodring.analyze(b"", rate_hz=16_000), UsageError, "bytes are an encoded image"),
        (lambda _: moodring.analyze(np.zeros(16_000, np.float32)), UsageError, "sound needs rate_hz"),
        (lambda _: moodring.analyze(np.zeros((4, 4, 3), np.float32)), UsageError, "must be uint8"),
        (lambda _: moodring.analyze(np.zeros((4, 4, 2), np.uint8)), UsageError, "must be uint8"),
        (lambda _: moodring.analyze(np.zeros((0, 4), np.uint8)), UsageError, "1 to 30000 pixels"),
        (lambda _: moodring.analyze(np.zeros((4, 4, 3), np.uint8), colour="hsv"), UsageError, "'rgb' or 'bgr'"),
        (lambda _: moodring.analyze(None), UsageError, "must be uint8"),
        (lambda _: moodring.analyze([[1], [2, 3]]), UsageError, "an array is needed"),
        (lambda _: moodring.analyze_sound(np.zeros(160, np.int64), 16_000), UsageError, "sound must be uint8, int16"),
        (lambda _: moodring.analyze_sound(np.zeros(160, np.int16)), UsageError, "needs rate_hz"),
        (lambda _: moodring.analyze_sound(np.zeros(160, np.int16), 7), UsageError, "rate_hz must be a whole number"),
        (lambda _: moodring.analyze_sound(np.zeros((65, 65), np.int16), 8000), UsageError, "1 to 64 channels"),
        (lambda _: moodring.analyze_sound(np.zeros(0, np.int16), 8000), UsageError, "at least one sample"),
        (lambda f: moodring.analyze(f / "video.mp4", video_track=3), UsageError, "has no video track 3"),
        (lambda f: moodring.analyze(f / "video.mp4", raw_audio="s99"), UsageError, "is not FORMAT:RATE:CHANNELS"),
    ],
)
def test_wrong_input_raises_what_was_wrong(call, error: type[Exception], says: str, inputs: Path):
    with pytest.raises(error, match=says):
        call(inputs)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "text.mp4").write_text("no video")
    (folder / "image.png").write_bytes(encoded(two_faces()))
    write_recording(folder / "video.mp4", video_frames=[empty_frame(i) for i in range(10)])
    write_empty_wav(folder / "empty.wav")
    return folder


def test_noise_nan_and_silence_give_rows_without_a_label(models: moodring.Models):
    for samples in (np.full(16_000, np.nan, np.float32), np.zeros(16_000, np.uint8) + 128, np.full(8000, 1e30)):
        analysis = moodring.analyze_sound(samples, 16_000, models=models)
        assert {row.label for row in analysis} == {None}
        assert "no speech was found in the sound" in analysis.missing


def test_models_of_other_settings_are_refused(models: moodring.Models, tiny_bundle: Path):
    other = dataclasses.replace(moodring.Config(), bundle=str(tiny_bundle))
    with pytest.raises(ConfigError, match="loaded for another bundle"):
        moodring.analyze(empty_frame(0), config=other, models=models)
    assert moodring.load_models(other).bundle.path == tiny_bundle


def test_the_configuration_is_used(models: moodring.Models):
    config = dataclasses.replace(moodring.Config(), labels=LabelsConfig(merge_calm=True))
    analysis = moodring.analyze(two_faces(), config=config, models=models)
    assert "calm" not in analysis.labels
    assert all(set(row.probabilities or ()) == set(analysis.labels) for row in analysis)


def test_a_replay_keeps_the_settings_of_speech():
    """`kernel: auto` with `baseline: false` once lost the second."""
    config = moodring.Config()
    config = dataclasses.replace(config, speech=dataclasses.replace(config.speech, baseline=False))
    assert reproducible(config).speech == dataclasses.replace(config.speech, kernel="cv2")
    assert reproducible(config).inference == InferenceConfig("onnx", "fp32")


# Summary and tables


def row(time_s: float, label: str | None, share: float = 0.5, **fields) -> Row:
    if label is None:
        return Row(time_s, "no_face", **fields)
    rest = "neutral" if label != "neutral" else "happy"
    probabilities = dict.fromkeys(LABELS, 0.0) | {label: share, rest: 1 - share}
    return Row(time_s, "ok", label, share, probabilities, ("face",), **fields)


def test_a_summary_counts_shares_means_transitions_and_faces():
    tally = Tally(LABELS)
    labels = ["happy", "happy", "sad", None, "happy"]
    for index, label in enumerate(labels):
        tally.add(row(0.2 * index, label, 0.75, face_id=1 + (index > 2)))
    summary = tally.summary(source="a.mp4", kind="video", duration_s=1.0, missing=["no sound"])
    assert (summary.rows, summary.label, summary.labelled, summary.faces) == (5, "happy", 0.8, 2)
    assert summary.shares == dict.fromkeys(LABELS, 0.0) | {"happy": 0.75, "sad": 0.25}
    assert summary.mean_probabilities == dict.fromkeys(LABELS, 0.0) | {"happy": 0.5625, "sad": 0.1875, "neutral": 0.25}
    assert summary.states == {"ok": 0.8, "no_face": 0.2}
    assert summary.transitions == {("happy", "sad"): 1}  # not across the row without a label
    assert list(summary.to_dict()) == list(summary_columns(LABELS))
    assert str(summary).splitlines() == [
        "a.mp4: video, 1.0 s, 5 rows, 2 face tracks, a label for 80% of the rows, 0% from face and voice together",
        "  label  share  mean probability",
        "  happy    75%              0.56  ###############",
        "  sad      25%              0.19  #####",
        "  transitions: 1 (happy to sad 1)",
        "  missing: no sound",
    ]


def test_a_summary_of_nothing_has_no_label():
    summary = Tally(LABELS).summary(source="a", kind="video", duration_s=0.0, missing=())
    assert (summary.label, summary.labelled, summary.shares["happy"]) == (None, 0.0, 0.0)


def test_dictionaries_have_the_columns_of_the_table(analysis: moodring.Analysis):
    records = analysis.to_dicts()
    assert all(list(record) == ["file", *columns(LABELS)] for record in records)
    kinds = {"file": str} | columns(LABELS)
    assert all(value is None or type(value) is kinds[name] for record in records for name, value in record.items())
    assert [record["p_happy"] for record in records] == [row.probabilities and row.probabilities["happy"] for row in analysis]


def test_pandas_has_typed_columns_also_without_values(analysis: moodring.Analysis, models: moodring.Models):
    pandas = pytest.importorskip("pandas", reason="no pandas: pip install 'moodring[batch]'")
    frame, empty = analysis.to_pandas(), moodring.analyze(empty_frame(0), models=models).to_pandas()
    assert list(frame.dtypes) == list(empty.dtypes)
    assert frame["p_happy"].dtype == "float64"
    assert frame["face_id"].dtype == "Int64"
    assert frame["p_happy"].to_list() == [record["p_happy"] for record in analysis.to_dicts()]
    assert len(pandas.concat([frame, empty])) == 16


def test_parquet_holds_the_exact_values_for_the_owner_alone(analysis: moodring.Analysis, tmp_path: Path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="no pyarrow: pip install 'moodring[batch]'")
    path = tmp_path / "rows.parquet"
    analysis.to_parquet(path)
    assert parquet.read_table(path).to_pylist() == analysis.to_dicts()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OSError, match="No such file"):
        analysis.to_parquet(tmp_path / "absent" / "rows.parquet")
    assert list(tmp_path.iterdir()) == [path]


def test_without_the_extra_the_package_to_install_is_named(analysis: moodring.Analysis, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"needs pandas: pip install 'moodring\[batch\]'"):
        analysis.to_pandas()
