"""Pipes as recordings: read once, from their first byte, by video and sound; refused at once where that cannot work."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from moodring.capture import pipe
from moodring.capture.pipe import PipeReader
from moodring.errors import MediaError
from tests.support.events import check_lines
from tests.support.recordings import write_talking_face

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="module", params=["mkv", "ts"])
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_talking_face(tmp_path_factory.mktemp("pipes") / f"clip.{request.param}")


@pytest.fixture
def command(tiny_bundle: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "tiny.yaml").write_text(f"bundle: {tiny_bundle}\n")
    run = ["-m", "moodring.cli", "run", "--pace", "max", "--config", str(tmp_path / "tiny.yaml")]
    return [sys.executable, *run]


def call(command: list[str], *arguments: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    options.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, env=ENVIRONMENT, timeout=40, check=False, **options
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture
def named_pipe(tmp_path: Path) -> Path:
    path = tmp_path / "named"
    os.mkfifo(path)
    return path


def data_of(events: bytes) -> list[object]:
    """Return what events say, without the identity of the run and its times of day."""
    return [event["data"] for event in check_lines(events.decode())]


def test_a_pipe_gives_the_events_of_the_file(command: list[str], recording: Path, named_pipe: Path):
    expected = data_of(call(command, recording).stdout)
    assert sum(len(data["modalities"]) == 2 for data in expected) >= 8
    for source in ("-", "/dev/stdin"):
        done = call(command, source, stdin=None, input=recording.read_bytes())
        assert (done.returncode, data_of(done.stdout)) == (0, expected), done.stderr
    writer = threading.Thread(target=lambda: named_pipe.write_bytes(recording.read_bytes()))
    writer.start()
    done = call(command, named_pipe)
    writer.join()
    assert (done.returncode, data_of(done.stdout)) == (0, expected), done.stderr


def test_a_process_substitution_and_separate_pipes_for_video_and_sound(command: list[str], recording: Path):
    expected = data_of(call(command, recording).stdout)
    line = " ".join(command)
    for source in (f"<(cat {recording})", f"--video <(cat {recording}) --audio <(cat {recording})"):
        done = call(["bash", "-c", f"{line} {source}"])
        assert (done.returncode, data_of(done.stdout)) == (0, expected), done.stderr


def test_standard_input_from_a_file_is_that_file(command: list[str], recording: Path):
    with recording.open("rb") as file:
        done = call(command, "-", stdin=file)
    assert (done.returncode, done.stdout) == (0, call(command, recording).stdout.replace(recording.name.encode(), b"stdin"))


def test_a_slow_writer_is_waited_for(command: list[str], recording: Path):
    data = recording.read_bytes()
    with subprocess.Popen(
        [*command, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:  # fmt: skip
        for part in (data[:1000], data[1000:40_000], data[40_000:]):
            process.stdin.write(part)
            process.stdin.flush()
            time.sleep(1)
        stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, len(check_lines(stdout.decode()))) == (0, 15), stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"input": b"", "stdin": None}, 1, b"/dev/stdin is empty: the program that writes to this pipe ended without data"),
        (
            {"input": b"no film\n" * 9999, "stdin": None},
            1,
            b"a format that can be read in one pass, such as MPEG-TS or Matroska",
        ),
        ({"stdin": subprocess.DEVNULL}, 2, b"/dev/stdin is neither a file nor a pipe"),
        ({"preexec_fn": lambda: os.close(0)}, 2, b"/dev/stdin is neither a file nor a pipe"),
    ],
)
def test_unusable_standard_input_is_refused_at_once(command: list[str], options: dict[str, object], code: int, message: bytes):
    done = call(command, "-", **options)
    assert done.returncode == code
    (line,) = done.stderr.splitlines()
    assert message in line


def test_a_terminal_as_standard_input_is_refused(command: list[str]):
    controller, terminal = os.openpty()
    done = call(command, "-", stdin=terminal)
    os.close(controller)
    os.close(terminal)
    assert done.returncode == 2
    assert b"neither a file nor a pipe" in done.stderr


@pytest.mark.parametrize("begun", [False, True])
def test_a_pipe_without_data_ends_with_a_message(command: list[str], recording: Path, named_pipe: Path, begun: bool):
    writer = os.open(named_pipe, os.O_RDWR)
    if begun:
        os.write(writer, recording.read_bytes()[:60_000])
    started_s = time.monotonic()
    done = call(command, named_pipe)
    os.close(writer)
    assert 10 <= time.monotonic() - started_s < 19
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert b"named: no data for 10 s; check the program that writes to this pipe" in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("begun", [False, True])
def test_an_interrupt_ends_a_run_that_waits_for_data(command: list[str], recording: Path, number: int, begun: bool):
    with subprocess.Popen(
        [*command, "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:  # fmt: skip
        if begun:
            process.stdin.write(recording.read_bytes()[:60_000])
            process.stdin.flush()
        time.sleep(2.5)
        process.send_signal(number)
        assert process.wait(timeout=5) == 130
        assert process.stderr.read().splitlines()[-1] == b"moodring: interrupted"


def test_the_benchmark_refuses_a_pipe(named_pipe: Path):
    done = call([sys.executable, "-m", "moodring.cli", "bench", str(named_pipe)])
    assert done.returncode == 2
    assert b"is a pipe; the benchmark reads a recording several times: name a file" in done.stderr


def test_report_and_replay_read_an_event_file_from_a_pipe(command: list[str], recording: Path, tmp_path: Path):
    lines = tmp_path / "events.jsonl"
    lines.write_bytes(call(command, recording).stdout)
    moodring = f"exec {sys.executable} -m moodring.cli"
    done = call(["bash", "-c", f"{moodring} report <(cat {lines}) --html {tmp_path}/report.html"])
    assert done.returncode == 0, done.stderr
    assert b"15 events of 1 streams" in done.stderr
    replay = f"{moodring} replay <(cat {lines}) --page --page-port 0 --speed 100"
    with subprocess.Popen(["bash", "-c", replay], stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        messages = [process.stderr.readline(), process.stderr.readline()]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 130
    assert b"page on http://127.0.0.1:" in messages[0]
    assert b"all events are played" in messages[1]


def test_streams_far_apart_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "far"
    os.mkfifo(path)
    monkeypatch.setattr(pipe, "WINDOW_BYTES", 1 << 17)
    data = os.urandom(1 << 19)
    writer = threading.Thread(target=lambda: path.write_bytes(data))
    fast, slow = PipeReader(str(path)), PipeReader(str(path))
    writer.start()
    assert b"".join(iter(lambda: fast.read(10_000), b"")) == data
    writer.join()
    with pytest.raises(MediaError, match="its video and sound lie more than 0 MB apart; write it to a file first"):
        slow.read(1)


@pytest.fixture
def requests() -> Iterator[tuple[int, list[str]]]:
    """Serve HTTP on loopback; yield the port and the paths that were requested."""
    paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, paths
        server.shutdown()


@pytest.mark.parametrize("kind", ["m3u8", "ffconcat", "sdp"])
def test_a_playlist_in_a_pipe_or_a_file_opens_no_connection(command: list[str], tmp_path: Path, requests, kind: str):
    port, paths = requests
    text = {
        "m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat": f"ffconcat version 1.0\nfile http://127.0.0.1:{port}/b.mp4\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 0 RTP/AVP 26\n",
    }[kind]
    path = tmp_path / f"list.{kind}"
    path.write_text(text)
    for done in (call(command, path), call(command, "-", stdin=None, input=text.encode())):
        assert done.returncode == 1
        assert b"cannot be opened" in done.stderr
    assert paths == []


def test_av_lets_errors_of_a_reader_out():
    """PyAV passes on an Exception of `read`; PipeInterrupted depends on it."""

    class Broken:
        def read(self, _: int) -> bytes:
            raise pipe.PipeInterrupted

    with pytest.raises(pipe.PipeInterrupted):
        av.open(Broken(), mode="r")
