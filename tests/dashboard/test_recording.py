"""Recorded event files: reading, summary, report and the commands."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.cli import main
from moodring.dashboard.recording import MAX_NAMED_KINDS, Skipped, read_events
from moodring.dashboard.report import render_report, write_report
from moodring.dashboard.summary import MAX_HOLD_MS, MAX_LABELS, OTHER_LABELS, summarize_streams
from moodring.errors import UsageError
from moodring.publish.cloudevents import to_json
from moodring.types import EmotionEvent, StatusEvent
from tests.support.page import CUSTOM_LABELS, SOURCE, STREAM, custom_event, event, status

GOLDEN = Path(__file__).resolve().parents[1] / "fixtures"


def write(path: Path, *events: EmotionEvent | StatusEvent) -> Path:
    path.write_text("".join(to_json(item) + "\n" for item in events), encoding="utf-8")
    return path


@pytest.fixture
def hour(tmp_path: Path) -> Path:
    """Two runs of one stream, one run of another: happy, sad, a lost camera, and drop counters that restart with each run."""
    lost = {"camera": "lost", "microphone": "ok"}
    return write(
        tmp_path / "hour.jsonl",
        *(event(seq, "happy") for seq in range(50)),
        *(event(seq, "sad") for seq in range(50, 100)),
        *(event(seq, None, devices=lost) for seq in range(100, 150)),
        status(dropped={"frames_overwritten": 5, "samples_overrun": 0}),
        event(0, "calm", source="/moodring/host/door/1"),
        event(3000, "happy", source=f"{SOURCE}x"),
        status(source=f"{SOURCE}x", dropped={"frames_overwritten": 2}),
        event(3001, "happy", source=f"{SOURCE}x"),
    )


def test_read_events_returns_order_and_time(hour: Path):
    lines = list(read_events(hour))
    assert len(lines) == 155
    assert [line.is_status for line in lines].count(True) == 2
    assert lines[1].time_ms - lines[0].time_ms == 200
    assert lines[0].published.per_mille is not None
    assert lines[-1].text == hour.read_text().splitlines()[-1]


def test_read_events_accepts_files_of_earlier_versions():
    assert len(list(read_events(GOLDEN / "emotion_v1.jsonl"))) >= 3
    assert all(line.is_status for line in read_events(GOLDEN / "status_v1.jsonl"))


EVENTS = [to_json(event(seq)) for seq in range(6)]
WHOLE = EVENTS[2].encode()


def read_damaged(path: Path, *lines: bytes) -> tuple[list[int], Skipped]:
    """Write the lines between four whole events; return the numbers of the events that are read, and what was skipped."""
    whole = [text.encode() for text in EVENTS]
    path.write_bytes(b"\n".join([*whole[:2], *lines, *whole[4:], b""]))
    skipped = Skipped()
    return [item.document["data"]["seq"] for item in read_events(path, skipped)], skipped


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"hello", "text that is not an event of moodring"),
        (b"moodring: camera lost", "text that is not an event of moodring"),
        (b"{}", "text that is not an event of moodring"),
        (b"[]", "text that is not an event of moodring"),
        (b"null", "text that is not an event of moodring"),
        (b"[" * 100_000, "text that is not an event of moodring"),
        (b'{"type":["moodring.emotion.v1"]}', "text that is not an event of moodring"),
        (b'{"type":"com.example.door.v1"}', "text that is not an event of moodring"),
        (WHOLE.replace(b"emotion.v1", b"emotion.v2"), "event of another version, moodring.emotion.v2"),
        (WHOLE.replace(b"emotion.v1", b"gesture.v1"), "event of another version, moodring.gesture.v1"),
        (b'{"type":"moodring.status.v1"}', "event with a missing or wrong field"),
        (WHOLE.replace(b'"/moodring/', b'"/other/'), "event with a missing or wrong field"),
        *(
            (WHOLE.replace(b'"data":{', b'"data":{"extra":' + value + b","), "event with a missing or wrong field")
            for value in (b"NaN", b"-Infinity", b"1e999", b"-1" + 400 * b"0" + b".0", 5000 * b"9")
        ),  # browsers reject NaN
        (WHOLE.replace(b"2026-01-02T", b"2026-13-02T"), "event with a missing or wrong field"),
        (WHOLE[:200], "incomplete event"),
        (WHOLE[:-1], "incomplete event"),
        (WHOLE.replace(b"happy", b"happ\xff"), "text that is not UTF-8"),
        (b"\0" * 5000, "null bytes"),
        (WHOLE[:100] + b"\0" * 50 + WHOLE[150:], "null bytes"),
        (b"x" * 3_000_000, "line of more than a million characters"),
        (b"\0" * 3_000_000, "line of more than a million characters"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_a_damaged_line_is_skipped_counted_and_named(tmp_path: Path, line: bytes, kind: str):
    numbers, skipped = read_damaged(tmp_path / "events.jsonl", line)
    assert numbers == [0, 1, 4, 5]
    assert skipped.counts == {kind: 1}
    assert str(skipped) == f"1 damaged or foreign part skipped: 1 x {kind} (line 3)"


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        (b"\0" * 4096 + WHOLE, ["null bytes"]),
        (WHOLE + b"\0" * 4096, ["null bytes"]),
        (WHOLE[:300] + b"\0" * 4096 + WHOLE, ["null bytes"]),
        (WHOLE[:300] + WHOLE, ["incomplete event"]),
        (b"\0" * 3_000_000 + WHOLE, ["line of more than a million characters"]),
        (b"\xef\xbb\xbf" + WHOLE, ["byte order mark"]),
        (b"moodring: microphone lost" + WHOLE, ["text that is not an event of moodring"]),
        (WHOLE + b"\r", []),
        (b"\n\n" + WHOLE, []),
    ],
)
def test_a_whole_event_on_a_damaged_line_is_read(tmp_path: Path, line: bytes, kinds: list[str]):
    numbers, skipped = read_damaged(tmp_path / "events.jsonl", line)
    assert numbers == [0, 1, 2, 4, 5]
    assert list(skipped.counts) == kinds


def test_two_events_without_a_newline_between_them_are_read(tmp_path: Path):
    assert read_damaged(tmp_path / "events.jsonl", WHOLE + EVENTS[3].encode()) == ([0, 1, 2, 3, 4, 5], Skipped())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path, encoding: str):
    path, skipped = tmp_path / "events.jsonl", Skipped()
    path.write_text("\r\n".join([*EVENTS, "not an event", ""]), encoding=encoding, newline="")
    assert len(list(read_events(path, skipped))) == len(EVENTS)
    assert skipped.counts == {"byte order mark": 1, "text that is not an event of moodring": 1}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_file_that_ends_in_the_middle_of_a_line_is_read(tmp_path: Path, encoding: str):
    path = tmp_path / "events.jsonl"
    whole = "\n".join(EVENTS).encode(encoding)
    for cut in range(1, 40):
        path.write_bytes(whole[:-cut])
        skipped = Skipped()
        assert len(list(read_events(path, skipped))) == len(EVENTS) - 1
        assert skipped.counts["incomplete event"] == 1


FIELDS = ["source", "time", "data"]
DATA_FIELDS = [
    *("seq", "state", "label", "confidence", "probabilities", "modalities", "face", "speech", "faces", "latency_ms"),
    *("bundle_id", "devices", "frame_wh"),
]
WRONG_VALUES = [7, -1.5, "text", True, [], [None], {}, {"happy": "much"}, {"happy": -1}, [[1]], float("nan"), 1e999, 10**400]


@pytest.mark.parametrize("place", [*FIELDS, *DATA_FIELDS])
def test_a_wrong_field_of_an_event_is_no_failure(tmp_path: Path, place: str):
    """Every value is either accepted, or the event is skipped; the report can always be written."""
    path = tmp_path / "events.jsonl"
    for value in WRONG_VALUES:
        document = json.loads(WHOLE)
        (document if place in FIELDS else document["data"])[place] = value
        numbers, skipped = read_damaged(path, json.dumps(document).encode())
        assert len(numbers) + sum(skipped.counts.values()) == 5
        assert write_report(path, tmp_path / "out.html") == 0
    document = json.loads(WHOLE)
    del (document if place in FIELDS else document["data"])[place]
    assert read_damaged(path, json.dumps(document).encode())[0] == ([0, 1, 2, 4, 5] if place == "frame_wh" else [0, 1, 4, 5])


@given(st.lists(st.binary(max_size=200) | st.sampled_from([WHOLE, WHOLE + b"\n", WHOLE[:300], b"\n", b"\0"]), max_size=8))
def test_arbitrary_bytes_are_no_failure(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(b"".join(parts))
    assert {item.text for item in read_events(path, Skipped())} <= {EVENTS[2]}


def test_the_kinds_and_lines_that_are_named_are_bounded(tmp_path: Path):
    lines = [WHOLE.replace(b"emotion.v1", b"emotion.v%d" % (k + 2)) for k in range(500)]
    numbers, skipped = read_damaged(tmp_path / "events.jsonl", *lines, *[b"x"] * 500)
    assert numbers == [0, 1, 4, 5]
    assert sum(skipped.counts.values()) == 1000
    assert len(str(skipped)) < 1500
    assert len(skipped.counts) == MAX_NAMED_KINDS + 1


def test_summary_shares_time_and_limits_gaps(hour: Path):
    main, door = summarize_streams(read_events(hour))
    assert (main.name, door.name) == (STREAM, "host/door")
    assert (main.events, main.runs) == (152, 2)
    assert main.label_ms == {"happy": 50 * 200 + 200, "sad": 50 * 200}
    assert main.state_ms == {"ok": 100 * 200 + 200, "no_face": 49 * 200}
    assert main.transitions == {("happy", "sad"): 1}
    assert main.dropped == {"frames_overwritten": 7, "samples_overrun": 0}
    assert [(change.device, change.state) for change in main.devices[:3]] == [
        ("camera", "ok"),
        ("microphone", "ok"),
        ("camera", "lost"),
    ]
    apart = summarize_streams(iter([*list(read_events(hour))[:1], *list(read_events(hour))[120:121]]))[0]
    assert apart.covered_ms == MAX_HOLD_MS


def test_mean_probabilities_leave_gaps_blank(hour: Path):
    main = summarize_streams(read_events(hour))[0]
    mean_probabilities = main.mean_probabilities(3001)
    assert mean_probabilities[0] is not None
    assert sum(mean_probabilities[0]) == pytest.approx(1, abs=0.01)
    assert mean_probabilities[125] is None
    assert mean_probabilities[2000] is None
    assert mean_probabilities[-1] is not None


def test_report_is_one_file_without_references(hour: Path, tmp_path: Path):
    out = tmp_path / "report.html"
    assert write_report(hour, out) == 0
    text = out.read_text(encoding="utf-8")
    assert "<script" not in text
    assert not re.findall(r"(?:src|href)=", text)
    assert "http" not in text.replace("http-equiv", "")
    for words in (STREAM, "host/door", "happy", "frames overwritten", "lost", "face and voice"):
        assert words in text
    assert text == render_report(hour.name, summarize_streams(read_events(hour)))
    assert out.stat().st_mode & 0o777 == 0o600  # as personal as the events


def test_report_escapes_all_content(tmp_path: Path):
    markup = "<script>alert(1)</script>"
    path = write(
        tmp_path / f"{markup.replace('/', '')}.jsonl",
        event(
            0,
            source=f"/moodring/{markup.replace('/', '')}/live/1",
            devices={markup: markup, "camera": "ok", "microphone": "ok"},
        ),
        status(source=f"/moodring/{markup.replace('/', '')}/live/1", dropped={markup: 1}),
    )
    write_report(path, tmp_path / "out.html")
    assert "<script" not in (tmp_path / "out.html").read_text()


def test_report_shows_the_labels_of_a_custom_bundle(tmp_path: Path):
    labels = ["delighted"] * 10 + ["bored & <tired>"] * 5 + ["delighted"] * 5
    path = write(tmp_path / "own.jsonl", *(custom_event(seq, label) for seq, label in enumerate(labels)))
    write_report(path, tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    rows = re.findall(r'<th scope="row">([^<]*)</th><td class="bar">.*?</td><td>([\d.]+) %</td>', text)
    assert rows[:3] == [("delighted", "73.7"), ("bored &amp; &lt;tired&gt;", "26.3"), ("cross", "0.0")]
    assert "longest label: delighted" in text
    assert re.search(r'<tr><th scope="row">delighted</th><td>·</td><td>1</td></tr>', text)
    assert len(set(re.findall(r'<path (fill="hsl[^"]*")', text))) == 3
    assert "happy" not in text.replace(".happy", "").replace("--happy", "")


def test_report_counts_a_stream_whose_bundle_changes(tmp_path: Path):
    path = write(
        tmp_path / "both.jsonl", *(event(seq) for seq in range(5)), *(custom_event(seq, "cross") for seq in range(5, 10))
    )
    (summary,) = summarize_streams(read_events(path))
    assert summary.labels[-3:] == CUSTOM_LABELS
    assert summary.label_ms == {"happy": 1000, "cross": 800}
    assert summary.transitions == {("happy", "cross"): 1}
    assert [round(sum(mean), 2) for mean in summary.mean_probabilities(9)] == [1.0] * 9


def test_labels_without_limit_are_added_up(tmp_path: Path):
    events = [
        dataclasses.replace(custom_event(seq, "cross"), label=f"label {seq}", probabilities={f"label {seq}": 1.0})
        for seq in range(MAX_LABELS + 50)
    ]
    (summary,) = summarize_streams(read_events(write(tmp_path / "many.jsonl", *events)))
    assert len(summary.labels) == MAX_LABELS + 1
    assert summary.label_ms[OTHER_LABELS] == 49 * 200
    assert sum(summary.mean_probabilities(1)[0]) == pytest.approx(1, abs=0.01)


def test_the_commands_name_what_they_skip(hour: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    whole = hour.read_bytes()
    hour.write_bytes(b"\xef\xbb\xbf" + whole + b"\0" * 4096 + b"\nhello\n" + WHOLE[:100])
    assert main(["report", str(hour), "--html", str(tmp_path / "out.html")]) == 0
    message = (
        "4 damaged or foreign parts skipped: 1 x byte order mark (line 1); 1 x null bytes (line 156); "
        "1 x text that is not an event of moodring (line 157); 1 x incomplete event (line 158)"
    )
    assert f"moodring: {hour}: {message}" in capsys.readouterr().err
    assert message in (tmp_path / "out.html").read_text(encoding="utf-8")
    command = [sys.executable, "-m", "moodring.cli", "replay", str(hour), "--page", "--page-port", "0", "--speed", "100000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as playing:
        lines = [playing.stderr.readline() for _ in range(3)]
        playing.send_signal(signal.SIGINT)
    assert lines[2] == f"moodring: {hour}: {message}\n"
    assert playing.returncode == 130


def test_commands_report_invalid_files(hour: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(hour), "--html", str(tmp_path / "out.html")]) == 0
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "wrong.jsonl").write_text("{}\n")
    for command in (["report", "--html", str(tmp_path / "x.html")], ["replay", "--page", "--page-port", "0"]):
        for name, words, code in (
            ("empty.jsonl", "contains no", 1),
            ("wrong.jsonl", "1 x text that is not an event of moodring (line 1)", 1),
            ("no.jsonl", "No such file", 2),
        ):
            assert main([command[0], str(tmp_path / name), *command[1:]]) == code
            assert words in capsys.readouterr().err
    assert main(["run", "--preview"]) == 2
    assert "--page" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["replay", str(hour)])
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_events(tmp_path / "none.jsonl"))


def test_report_does_not_import_server_libraries():
    look = "import sys, moodring.dashboard.report; print(sorted({'asyncio', 'h11', 'wsproto'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
