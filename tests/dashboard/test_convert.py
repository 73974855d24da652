"""`moodring convert`: event files, their clocks, damaged and mixed files, and outputs."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import av
import pytest
import webvtt
from lxml import etree

from moodring.analysis.annotations.files import SUFFIXES
from moodring.cli import main
from moodring.cli.convert import FORMATS
from moodring.dashboard.convert import read_timelines
from moodring.dashboard.recording import read_events
from moodring.dashboard.summary import summarize_streams
from moodring.publish.cloudevents import to_json
from moodring.types import EmotionEvent, StatusEvent
from tests.support.page import SOURCE, custom_event, event, status

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
REPLAY = "/moodring/replay/{}/0123456789ab"


def write(path: Path, *events: EmotionEvent | StatusEvent | str) -> Path:
    lines = (one if isinstance(one, str) else to_json(one) for one in events)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def replayed(seq: int, label: str | None, recording: str = "clip.mp4", **changes: object) -> EmotionEvent:
    """Return an event of a recording, at 0.2 s, 0.4 s, ..."""
    ms = 200 * (seq + 1)
    time = f"1970-01-01T00:{ms // 60_000:02}:{ms // 1000 % 60:02}.{ms % 1000:03}000Z"
    return event(seq, label, source=REPLAY.format(recording), time_utc=time, **changes)


def cues(path: Path) -> list[tuple[str, str, str]]:
    return [(cue.start, cue.end, cue.text) for cue in webvtt.read(str(path))]


def converted(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["convert", *map(str, arguments)])
    captured = capfd.readouterr()
    assert captured.out == ""
    return code, captured.err


def test_the_formats_of_the_command_line_are_those_of_the_writers():
    assert tuple(SUFFIXES) == FORMATS


def test_events_of_a_recording_are_in_its_time(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    labels = ["happy", "happy", None, "sad"]
    path = write(tmp_path / "e.jsonl", *(replayed(seq, label) for seq, label in enumerate(labels)), status())
    code, err = converted(capfd, path, "--to", "vtt")
    assert code == 0
    assert cues(tmp_path / "e.vtt") == [
        ("00:00:00.200", "00:00:00.600", "happy 72 %"), ("00:00:00.800", "00:00:01.000", "sad 72 %"),
    ]  # fmt: skip
    assert err == (f"wrote {tmp_path}/e.vtt: 2 intervals from 4 events; second 0 is the start of the recording\n")
    assert "NOTE moodring: second 0 is the start of the recording\n" in (tmp_path / "e.vtt").read_text()


def test_live_events_are_in_seconds_from_the_first(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = write(tmp_path / "e.jsonl", status(), event(5, "happy"), event(6, "sad"))
    code, err = converted(capfd, path, "--to", "vtt")
    assert code == 0
    assert [cue[0] for cue in cues(tmp_path / "e.vtt")] == ["00:00:00.000", "00:00:00.200"]
    assert "second 0 is the first event, at 2026-01-02T03:04:06.000Z" in err


def test_live_streams_share_one_clock_and_name_their_tiers(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    door = "/moodring/host/door/1"
    events = [event(0), event(5, "sad", source=door), event(1), event(6, "sad", source=door), event(9, source=f"{SOURCE}x")]
    path = write(tmp_path / "e.jsonl", *events)
    assert converted(capfd, path, "--to", "vtt")[0] == 0
    assert cues(tmp_path / "e.vtt") == [
        ("00:00:00.000", "00:00:02.000", "host/live expression: happy 72 %"),
        ("00:00:01.000", "00:00:01.400", "host/door expression: sad 72 %"),
    ]
    assert converted(capfd, path, "--to", "elan", "--tiers", "face")[0] == 0
    tiers = [tier.get("TIER_ID") for tier in etree.parse(str(tmp_path / "e.eaf")).getroot().iter("TIER")]
    assert tiers == ["host/live face", "host/live face probability", "host/door face", "host/door face probability"]


def test_several_recordings_get_a_file_each(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    other = replayed(1, "calm").source.replace("0123456789ab", "ba9876543210")
    path = write(
        tmp_path / "e.jsonl", replayed(0, "happy"), replayed(0, "sad", "b.mp4"), replayed(1, "happy"), event(0, "fear"),
        dataclasses.replace(replayed(0, "calm"), source=other),
    )  # fmt: skip
    code, err = converted(capfd, path, "--to", "vtt", "--out", tmp_path / "one.vtt")
    assert code == 2
    assert "several recordings (clip.mp4, b.mp4, live, clip.mp4); name a folder" in err
    assert converted(capfd, path, "--to", "vtt", "--video", path)[0] == 2
    (tmp_path / "out").mkdir()
    for folder, options in ((tmp_path, ()), (tmp_path / "out", ("--out", tmp_path / "out"))):
        assert converted(capfd, path, "--to", "vtt", *options)[0] == 0
        texts = {made.name: [text for *_, text in cues(made)] for made in folder.glob("*.vtt")}
        assert texts == {
            "e.clip.mp4.vtt": ["happy 72 %"], "e.b.mp4.vtt": ["sad 72 %"], "e.live.vtt": ["fear 72 %"],
            "e.clip.mp4-2.vtt": ["calm 72 %"],
        }  # fmt: skip


def test_repeated_events_count_once_and_times_that_go_back_are_sorted(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    events = [replayed(0, "happy"), replayed(2, "happy"), replayed(1, "sad"), replayed(0, "happy"), replayed(0, "happy")]
    code, err = converted(capfd, write(tmp_path / "e.jsonl", *events), "--to", "vtt")
    assert code == 0
    assert [text for *_, text in cues(tmp_path / "e.vtt")] == ["happy 72 %", "sad 72 %", "happy 72 %"]
    assert "2 events of clip.mp4 with the id of another left out" in err
    assert "1 event of clip.mp4 not later than the one before: sorted by time" in err


def test_damaged_lines_are_counted_and_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = write(tmp_path / "e.jsonl", replayed(0, "happy"), "no event", to_json(replayed(1, "sad"))[:90], replayed(2, "happy"))
    code, err = converted(capfd, path, "--to", "srt")
    assert code == 0
    assert "2 damaged or foreign parts skipped: 1 x text that is not an event of moodring (line 2); 1 x incomplete" in err
    assert "from 2 events" in err


def test_labels_of_custom_models_pass(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    changes = {"source": REPLAY.format("a"), "time_utc": "1970-01-01T00:00:01Z"}
    path = write(tmp_path / "e.jsonl", custom_event(0, "bored & <tired>", **changes))
    for kind in FORMATS:
        assert converted(capfd, path, "--to", kind)[0] == 0
    assert "bored &amp; &lt;tired&gt; 80 %" in (tmp_path / "e.vtt").read_text()
    assert etree.parse(str(tmp_path / "e.eaf")).findtext(".//ANNOTATION_VALUE") == "bored & <tired>"


def test_events_without_a_label_give_a_valid_file_without_intervals(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = write(tmp_path / "e.jsonl", replayed(0, None), replayed(1, None))
    for kind in FORMATS:
        code, err = converted(capfd, path, "--to", kind)
        assert code == 0
        assert "0 intervals from 2 events" in err
    assert cues(tmp_path / "e.vtt") == []


def test_events_of_earlier_versions_convert(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    for kind in FORMATS:
        assert converted(capfd, FIXTURES / "emotion_v1.jsonl", "--to", kind, "--out", tmp_path)[0] == 0


def test_the_video_gives_the_place_and_the_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "film.mp4").touch()
    path = write(tmp_path / "e.jsonl", replayed(0, "sad"))
    assert converted(capfd, path, "--to", "elan", "--video", tmp_path / "films" / "film.mp4")[0] == 0
    (media,) = etree.parse(str(tmp_path / "films" / "film.eaf")).iter("MEDIA_DESCRIPTOR")
    assert media.get("RELATIVE_MEDIA_URL") == "./film.mp4"
    code, err = converted(capfd, path, "--to", "elan", "--video", tmp_path / "absent.mp4")
    assert (code, "no such file" in err) == (2, True)


def test_outputs_that_exist_stay(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = write(tmp_path / "e.jsonl", replayed(0, "sad"), replayed(0, "sad", "b.mp4"))
    (tmp_path / "e.b.mp4.srt").write_text("mine")
    code, err = converted(capfd, path, "--to", "srt")
    assert code == 2
    assert (
        "e.b.mp4.srt exists and stays as it is; remove it, name another file with --out, or replace it with --overwrite" in err
    )
    assert not (tmp_path / "e.clip.mp4.srt").exists()
    assert (tmp_path / "e.b.mp4.srt").read_text() == "mine"
    assert converted(capfd, path, "--to", "srt", "--overwrite")[0] == 0
    assert "sad" in (tmp_path / "e.b.mp4.srt").read_text()


@pytest.mark.parametrize(
    ("content", "words", "code"),
    [
        ("", "contains no emotion event", 1),
        ("{}\n", "1 x text that is not an event of moodring (line 1)", 1),
        (None, "No such", 2),
    ],
)
def test_files_without_events_are_refused(content: str | None, words: str, code: int, tmp_path, capfd):
    if content is not None:
        (tmp_path / "e.jsonl").write_text(content)
    found, err = converted(capfd, tmp_path / "e.jsonl", "--to", "vtt")
    assert (found, words in err) == (code, True)
    assert not (tmp_path / "e.vtt").exists()


def test_folders_that_cannot_be_written_are_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = write(tmp_path / "e.jsonl", replayed(0, "sad"))
    code, err = converted(capfd, path, "--to", "vtt", "--out", tmp_path / "absent" / "a.vtt")
    assert (code, "does not exist; make it first" in err) == (2, True)
    code, err = converted(capfd, path, "--to", "vtt", "--out", Path("/proc/a.vtt"))
    assert (code, "/proc" in err) == (1, True)


def test_the_time_of_each_label_is_that_of_the_report(tmp_path: Path):
    labels = ["happy"] * 7 + [None] * 3 + ["sad"] * 5 + ["happy"] * 4
    path = write(tmp_path / "e.jsonl", *(event(seq, label) for seq, label in enumerate(labels)))
    (summary,) = summarize_streams(read_events(path))
    (timeline,) = read_timelines(read_events(path))
    total: dict[str, int] = {}
    for one in timeline.annotations().tracks[0].intervals:
        total[one.label] = total.get(one.label, 0) + one.end_ms - one.start_ms
    assert total == {**summary.label_ms, "happy": summary.label_ms["happy"] + 200}  # the last event counts here


def test_the_command_starts_without_the_libraries_of_other_formats(tmp_path: Path):
    path = write(tmp_path / "e.jsonl", replayed(0, "sad"))
    look = (
        "import sys\nfrom moodring.cli import main\n"
        f"main(['convert', {str(path)!r}, '--to', 'xdf'])\n"
        "print(sorted({'pysubs2', 'pympi', 'praatio', 'av', 'cv2', 'onnxruntime', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout == "[]\n"


def test_ffmpeg_reads_the_subtitles(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = write(tmp_path / "e.jsonl", replayed(0, "sad"), replayed(1, "happy"))
    for kind, codec in (("vtt", "webvtt"), ("srt", "subrip")):
        assert converted(capfd, path, "--to", kind)[0] == 0
        with av.open(str(tmp_path / f"e.{kind}")) as file:
            assert file.streams[0].codec_context.name in (codec, "srt")
            packets = [packet for packet in file.demux() if packet.size]
        assert [(float(packet.pts * packet.time_base), bytes(packet)) for packet in packets] == [
            (0.2, b"sad 72 %"), (0.4, b"happy 72 %"),
        ]  # fmt: skip
