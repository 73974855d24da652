"""Events as JSON: what is published stays valid, and every line is written whole."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import os
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from moodring.errors import EventError, PublishError
from moodring.labels import LABELS
from moodring.publish.cloudevents import to_document, to_json
from moodring.publish.jsonl import FilePolicy, JsonLines, ReaderGoneError
from moodring.publish.terminal import TerminalView
from moodring.types import BranchView, EmotionEvent, Face
from tests.support.events import check_event, check_lines, check_status, validator
from tests.support.status import STATUS

GOLDEN = Path(__file__).resolve().parents[1] / "fixtures" / "emotion_v1.jsonl"
EVEN = dict.fromkeys(LABELS, 0.125)

EVENT = EmotionEvent(
    source="/moodring/host/live/0123456789ab",
    time_utc="2026-01-02T03:04:05.000006Z",
    seq=7,
    capture_time_ns=123_456_789,
    state="ok",
    label="happy",
    confidence=0.125,
    probabilities=EVEN,
    modalities=("face", "speech"),
    face=BranchView("happy", EVEN, 0.9, 12.3456),
    speech=BranchView("calm", EVEN, 0.8, 250.0),
    faces=(Face(1, (10, -2, 30, 30), 0.75),),
    latency_ms=4.5678,
    bundle_id="0123456789abcdef",
    devices={"camera": "ok", "microphone": "ok"},
)
SILENT = dataclasses.replace(
    EVENT, seq=8, state="no_face", label=None, confidence=None, probabilities=None, modalities=(), face=None, speech=None,
    faces=(), latency_ms=None,
)  # fmt: skip


def test_golden_lines_stay_valid():
    """Published by 0.1.0: who reads these today must be able to read tomorrow's, and the other way round."""
    events = check_lines(GOLDEN.read_text(encoding="utf-8"))
    assert {event["data"]["state"] for event in events} >= {"ok", "no_face"}
    assert any(len(event["data"]["modalities"]) == 2 for event in events)


def test_todays_events_have_the_shape_of_the_golden_ones():
    golden = next(event for event in map(json.loads, GOLDEN.read_text().splitlines()) if len(event["data"]["modalities"]) == 2)
    today = to_document(EVENT)
    assert list(today) == list(golden)
    assert list(today["data"]) == list(golden["data"])
    for part in ("face", "speech", "devices", "probabilities"):
        assert list(today["data"][part]) == list(golden["data"][part])
    assert list(today["data"]["faces"][0]) == list(golden["data"]["faces"][0])


@pytest.mark.parametrize("event", [EVENT, SILENT], ids=["ok", "silent"])
def test_an_event_is_valid_and_one_line(event: EmotionEvent):
    check_event(json.loads(to_json(event)))
    assert "\n" not in to_json(event)


def test_numbers_are_rounded_and_kept():
    data = to_document(EVENT)["data"]
    assert data["latency_ms"] == 4.568
    assert data["face"]["age_ms"] == 12.346
    assert data["faces"] == [{"id": 1, "box_xywh": [10, -2, 30, 30], "quality": 0.75}]
    assert data["modalities"] == ["face", "speech"]


WRONG = {
    "no id": lambda e: e.pop("id"),
    "another version of the envelope": lambda e: e.update(specversion="0.3"),
    "another type": lambda e: e.update(type="moodring.emotion.v2"),
    "a source without a run": lambda e: e.update(source="/moodring/host/live"),
    "no data": lambda e: e.pop("data"),
    "an unknown label": lambda e: e["data"].update(label="bored"),
    "an unknown state": lambda e: e["data"].update(state="fine"),
    "a confidence above 1": lambda e: e["data"].update(confidence=1.1),
    "a negative latency": lambda e: e["data"].update(latency_ms=-1.0),
    "a negative age": lambda e: e["data"]["face"].update(age_ms=-0.1),
    "a face without a box": lambda e: e["data"]["faces"][0].pop("box_xywh"),
    "a box of three": lambda e: e["data"]["faces"][0].update(box_xywh=[1, 2, 3]),
    "a modality twice": lambda e: e["data"].update(modalities=["face", "face"]),
    "an unknown device state": lambda e: e["data"]["devices"].update(camera="broken"),
    "no microphone": lambda e: e["data"]["devices"].pop("microphone"),
    "a probability of an unknown label": lambda e: e["data"]["probabilities"].update(bored=0.1),
    "a missing probability": lambda e: e["data"]["probabilities"].pop("happy"),
    "a bundle without id": lambda e: e["data"].update(bundle_id=""),
    "a number that is a text": lambda e: e["data"].update(seq="7"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_schema_refuses(wrong: str):
    event = copy.deepcopy(to_document(EVENT))
    validator().validate(event)
    WRONG[wrong](event)
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(event)


def test_a_time_that_is_none_or_has_no_zone_is_noticed():
    for wrong in ("yesterday", "2026-01-02T03:04:05"):
        with pytest.raises((AssertionError, ValueError)):
            check_event(to_document(EVENT) | {"time": wrong})


def test_fields_may_be_added():
    event = to_document(EVENT)
    event["data"]["mood"] = "sunny"
    event["traceparent"] = "00"
    validator().validate(event)


# For those who read them


@pytest.mark.parametrize("event", [EVENT, SILENT], ids=["ok", "silent"])
def test_what_was_published_is_read_back(event: EmotionEvent):
    read = EmotionEvent.from_json(to_json(event))
    assert to_json(read) == to_json(event)
    assert (read.source, read.seq, read.label, read.modalities) == (event.source, event.seq, event.label, event.modalities)
    assert read.faces == event.faces


def test_every_golden_line_can_be_read():
    for line in GOLDEN.read_text(encoding="utf-8").splitlines():
        assert to_document(EmotionEvent.from_json(line)) == json.loads(line)


def test_a_field_of_the_future_is_ignored():
    document = to_document(EVENT)
    document["traceparent"] = "00"
    for part in (document["data"], document["data"]["face"], document["data"]["faces"][0]):
        part["mood"] = "sunny"
    assert to_json(EmotionEvent.from_json(json.dumps(document))) == to_json(EVENT)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "{}", '{"type": "moodring.emotion.v1"}', '{"type": "moodring.emotion.v1", "data": {}}']
)
def test_a_text_that_is_no_event_is_refused(text: str):
    with pytest.raises(EventError, match=r"this is no event of moodring"):
        EmotionEvent.from_json(text)


def test_a_status_is_no_emotion_event():
    with pytest.raises(EventError, match=r"this is no moodring.emotion.v1 but 'moodring.status.v1'"):
        EmotionEvent.from_json(to_json(STATUS))


def test_a_status_is_valid_and_the_golden_one_stays_so():
    check_status(json.loads(to_json(STATUS)))
    (golden,) = map(json.loads, (GOLDEN.parent / "status_v1.jsonl").read_text(encoding="utf-8").splitlines())
    check_status(golden)
    today = to_document(STATUS)
    assert list(today["data"]) == list(golden["data"])
    assert list(today["data"]["sinks"]["mqtt"]) == list(golden["data"]["sinks"]["mqtt"])


# To a file


def test_lines_are_appended_and_there_at_once(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"kept": true}\n')
    lines = JsonLines(str(path))
    lines.publish(EVENT)
    assert path.read_text().splitlines() == ['{"kept": true}', to_json(EVENT)]
    lines.publish(SILENT)
    lines.close()
    lines.close()
    assert path.read_text().splitlines()[2] == to_json(SILENT)


@pytest.mark.parametrize("path", ["missing/folder/events.jsonl", "."])
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, path: str):
    with pytest.raises(PublishError, match=r"events cannot be written to .*: (No such file|Is a directory)"):
        JsonLines(str(tmp_path / path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_said():
    lines = JsonLines("/dev/full")
    with pytest.raises(PublishError, match="No space left on device"):
        lines.publish(EVENT)
    lines.close()


def test_a_reader_that_has_gone_is_no_failure(monkeypatch: pytest.MonkeyPatch):
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        lines = JsonLines("-")
        lines.publish(EVENT)
        os.close(reading)
        with pytest.raises(ReaderGoneError) as caught:
            lines.publish(EVENT)
        lines.close()
    assert caught.value.exit_code == 0


@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=20))
def test_a_line_survives_writes_that_take_only_a_part_of_it(tmp_path_factory, sizes: list[int]):
    path = tmp_path_factory.mktemp("partial") / "events.jsonl"
    remaining = iter(sizes)

    def write_some(fd: int, data: memoryview) -> int:
        return whole_write(fd, data[: next(remaining, len(data))])

    lines = JsonLines(str(path))
    whole_write = os.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write_some)
        lines.publish(EVENT)
    lines.close()
    assert path.read_text() == to_json(EVENT) + "\n"


def test_statuses_are_written_where_they_are_wanted(tmp_path: Path):
    for wanted in (False, True):
        lines = JsonLines(str(tmp_path / f"{wanted}.jsonl"), FilePolicy(status=wanted))
        lines.publish(STATUS)
        lines.close()
    assert (tmp_path / "False.jsonl").read_text() == ""
    assert (tmp_path / "True.jsonl").read_text() == to_json(STATUS) + "\n"


def test_a_line_that_was_cut_short_by_a_kill_is_cut_off(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_text(to_json(EVENT) + "\n" + to_json(EVENT)[:100])
    lines = JsonLines(str(path))
    lines.publish(SILENT)
    lines.close()
    assert path.read_text().splitlines() == [to_json(EVENT), to_json(SILENT)]


def test_a_foreign_text_without_its_line_end_is_kept(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("notes")
    lines = JsonLines(str(path))
    lines.publish(SILENT)
    lines.close()
    assert path.read_text().splitlines() == ["notes", to_json(SILENT)]


def test_a_full_disk_leaves_no_half_line_and_writing_goes_on_when_there_is_room(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    lines = JsonLines(str(path))
    lines.publish(EVENT)
    whole_write = os.write

    def write_half(fd: int, data: memoryview) -> int:
        if len(data) < 500:
            raise OSError(28, "No space left on device")
        return whole_write(fd, data[: len(data) // 2])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write_half)
        with pytest.raises(PublishError, match="No space left on device"):
            lines.publish(SILENT)
    assert path.read_text() == to_json(EVENT) + "\n"
    lines.publish(SILENT)
    lines.close()
    assert path.read_text().splitlines() == [to_json(EVENT), to_json(SILENT)]


def test_a_file_is_set_aside_by_size_and_only_so_many_are_kept(tmp_path: Path):
    now = iter(range(10**6))
    lines = JsonLines(str(tmp_path / "events.jsonl"), FilePolicy(rotate_mb=0.003, keep_files=2), wall_s=lambda: next(now))
    for seq in range(20):
        lines.publish(dataclasses.replace(EVENT, seq=seq))
    lines.close()
    old = sorted(tmp_path.glob("events-*.jsonl"))
    assert len(old) == 2
    assert all(path.stat().st_size <= 3000 for path in tmp_path.iterdir())
    text = "".join(path.read_text() for path in (*old, tmp_path / "events.jsonl"))
    kept = [json.loads(line)["data"]["seq"] for line in text.splitlines()]
    assert kept == list(range(kept[0], 20))


def test_a_file_is_set_aside_by_age(tmp_path: Path):
    now_s = [0.0]
    lines = JsonLines(str(tmp_path / "events.jsonl"), FilePolicy(rotate_h=1.0, fsync="always"), wall_s=lambda: now_s[0])
    for hour in (0.0, 0.9, 1.1, 1.5):
        now_s[0] = hour * 3600
        lines.publish(EVENT)
    lines.close()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["events-19700101T010600.000000Z.jsonl", "events.jsonl"]


# On a terminal


@pytest.mark.parametrize("event", [EVENT, SILENT], ids=["ok", "silent"])
def test_the_panel_shows_every_event(event: EmotionEvent):
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    view = TerminalView("moodring: clip.mp4", lambda: -20.0, console)
    view.publish(event)
    view.close()
    shown = console.file.getvalue()
    assert "clip.mp4" in shown
    assert ("happy" in shown) == (event is EVENT)
    assert ("no face in view" in shown) == (event is SILENT)
