"""Recorded event files: read, played and summarised; what is none is named with its line."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.cli import main
from moodring.dashboard.recording import read_events
from moodring.dashboard.report import page, write_report
from moodring.dashboard.summary import MAX_HOLD_MS, summarize_streams
from moodring.errors import EventError, UsageError
from moodring.publish.cloudevents import to_json
from moodring.types import EmotionEvent, StatusEvent
from tests.support.page import SOURCE, STREAM, event, status

GOLDEN = Path(__file__).resolve().parents[1] / "fixtures"


def write(path: Path, *events: EmotionEvent | StatusEvent) -> Path:
    path.write_text("".join(to_json(one) + "\n" for one in events), encoding="utf-8")
    return path


@pytest.fixture
def hour(tmp_path: Path) -> Path:
    """Two runs of one stream and one of another: happy, sad, a lost camera, and losses that each run counts anew."""
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


def test_events_are_read_in_their_order_with_their_time(hour: Path):
    lines = list(read_events(hour))
    assert len(lines) == 155
    assert [line.is_status for line in lines].count(True) == 2
    assert lines[1].time_ms - lines[0].time_ms == 200
    assert lines[0].published.per_mille is not None
    assert lines[-1].text == hour.read_text().splitlines()[-1]


def test_published_files_of_earlier_versions_are_read():
    assert len(list(read_events(GOLDEN / "emotion_v1.jsonl"))) >= 3
    assert all(line.is_status for line in read_events(GOLDEN / "status_v1.jsonl"))


def test_a_half_written_last_line_is_passed_over(hour: Path):
    whole = hour.read_bytes()
    hour.write_bytes(whole + whole.splitlines()[0][:100])
    assert len(list(read_events(hour))) == 155


@pytest.mark.parametrize(
    "line", ["hello", "{}", "[]", "null", '{"type":"moodring.emotion.v2"}', '{"type":"moodring.status.v1"}', "[" * 100_000]
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str):
    path = tmp_path / "events.jsonl"
    path.write_text(to_json(event()) + "\n" + line + "\n")
    with pytest.raises(EventError, match=re.escape(f"{path}:2: ")):
        list(read_events(path))


@given(st.binary(max_size=200))
def test_any_bytes_are_events_or_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(data)
    with contextlib.suppress(EventError):
        assert list(read_events(path)) == []


def test_shares_are_of_time_and_a_gap_counts_for_no_more_than_it_may(hour: Path):
    main, door = summarize_streams(read_events(hour))
    assert (main.name, door.name) == (STREAM, "host/door")
    assert (main.events, main.runs) == (152, 2)
    assert main.label_ms == {"happy": 50 * 200 + 200, "sad": 50 * 200}
    assert main.state_ms == {"ok": 100 * 200 + 200, "no_face": 49 * 200}
    assert main.transitions == {("happy", "sad"): 1}
    assert main.dropped == {"frames_overwritten": 7, "samples_overrun": 0}
    assert [(note.device, note.state) for note in main.devices[:3]] == [
        ("camera", "ok"),
        ("microphone", "ok"),
        ("camera", "lost"),
    ]
    apart = summarize_streams(iter([*list(read_events(hour))[:1], *list(read_events(hour))[120:121]]))[0]
    assert apart.covered_ms == MAX_HOLD_MS


def test_columns_are_means_and_gaps_stay_blank(hour: Path):
    main = summarize_streams(read_events(hour))[0]
    mean_probabilities = main.mean_probabilities(3001)
    assert mean_probabilities[0] is not None
    assert sum(mean_probabilities[0]) == pytest.approx(1, abs=0.01)
    assert mean_probabilities[125] is None
    assert mean_probabilities[2000] is None
    assert mean_probabilities[-1] is not None


def test_the_report_is_one_file_that_asks_nobody(hour: Path, tmp_path: Path):
    out = tmp_path / "report.html"
    assert write_report(hour, out) == 0
    text = out.read_text(encoding="utf-8")
    assert "<script" not in text
    assert not re.findall(r"(?:src|href)=", text)
    assert "http" not in text.replace("http-equiv", "")
    for words in (STREAM, "host/door", "happy", "frames overwritten", "lost", "face and voice"):
        assert words in text
    assert text == page(hour.name, summarize_streams(read_events(hour)))


def test_what_a_file_holds_is_never_markup(tmp_path: Path):
    wicked = "<script>alert(1)</script>"
    path = write(
        tmp_path / f"{wicked.replace('/', '')}.jsonl",
        event(
            0,
            source=f"/moodring/{wicked.replace('/', '')}/live/1",
            devices={wicked: wicked, "camera": "ok", "microphone": "ok"},
        ),
        status(source=f"/moodring/{wicked.replace('/', '')}/live/1", dropped={wicked: 1}),
    )
    write_report(path, tmp_path / "out.html")
    assert "<script" not in (tmp_path / "out.html").read_text()


def test_labels_that_are_none_of_ours_do_not_break_it(tmp_path: Path):
    odd = dataclasses.replace(event(), label="bored", probabilities={"bored": 1.0})
    write_report(write(tmp_path / "odd.jsonl", odd, dataclasses.replace(odd, seq=1)), tmp_path / "out.html")


def test_the_commands_say_what_is_wrong(hour: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(hour), "--html", str(tmp_path / "out.html")]) == 0
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "wrong.jsonl").write_text("{}\n")
    for command in (["report", "--html", str(tmp_path / "x.html")], ["replay", "--page", "--page-port", "0"]):
        for name, words, code in (
            ("empty.jsonl", "holds no", 1),
            ("wrong.jsonl", "wrong.jsonl:1", 1),
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
