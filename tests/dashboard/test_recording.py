"""Recorded event files: reading, summary, report and the commands."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moodring.cli import main
from moodring.dashboard.recording import read_events
from moodring.dashboard.report import render_report, write_report
from moodring.dashboard.summary import MAX_HOLD_MS, summarize_streams
from moodring.errors import EventError, UsageError
from moodring.publish.cloudevents import to_json
from moodring.types import EmotionEvent, StatusEvent
from tests.support.page import SOURCE, STREAM, event, status

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


def test_read_events_skips_incomplete_last_line(hour: Path):
    whole = hour.read_bytes()
    hour.write_bytes(whole + whole.splitlines()[0][:100])
    assert len(list(read_events(hour))) == 155


@pytest.mark.parametrize(
    "line", ["hello", "{}", "[]", "null", '{"type":"moodring.emotion.v2"}', '{"type":"moodring.status.v1"}', "[" * 100_000]
)
def test_read_events_names_invalid_line(tmp_path: Path, line: str):
    path = tmp_path / "events.jsonl"
    path.write_text(to_json(event()) + "\n" + line + "\n")
    with pytest.raises(EventError, match=re.escape(f"{path}:2: ")):
        list(read_events(path))


@given(st.binary(max_size=200))
def test_read_events_rejects_arbitrary_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(data)
    with contextlib.suppress(EventError):
        assert list(read_events(path)) == []


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


def test_report_accepts_unknown_labels(tmp_path: Path):
    odd = dataclasses.replace(event(), label="bored", probabilities={"bored": 1.0})
    write_report(write(tmp_path / "odd.jsonl", odd, dataclasses.replace(odd, seq=1)), tmp_path / "out.html")


def test_commands_report_invalid_files(hour: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(hour), "--html", str(tmp_path / "out.html")]) == 0
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "wrong.jsonl").write_text("{}\n")
    for command in (["report", "--html", str(tmp_path / "x.html")], ["replay", "--page", "--page-port", "0"]):
        for name, words, code in (
            ("empty.jsonl", "contains no", 1),
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


def test_report_does_not_import_server_libraries():
    look = "import sys, moodring.dashboard.report; print(sorted({'asyncio', 'h11', 'wsproto'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
